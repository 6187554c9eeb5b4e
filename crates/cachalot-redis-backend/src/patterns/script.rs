//! The scripts of `patterns/lua`, each one atomic step on keys of one slot.

use std::sync::LazyLock;

use crate::script::Script;

const PRELUDE: &str = include_str!("lua/prelude.lua");

macro_rules! scripts {
    ($($name:ident: $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::of([PRELUDE, include_str!($file)].join("\n")));)*

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), include_str!($file)),)*];
    };
}

scripts! {
    FORGET: "lua/forget.lua";
    HASH_SET: "lua/hash_set.lua";
    HASH_UPDATE: "lua/hash_update.lua";
    BOARD_WRITE: "lua/board_write.lua";
    BOARD_RAISE: "lua/board_raise.lua";
    BOARD_REPLACE: "lua/board_replace.lua";
    BOARD_AROUND: "lua/board_around.lua";
    COUNTER_INCREMENT: "lua/counter_increment.lua";
    COUNTER_RESET: "lua/counter_reset.lua";
    QUEUE_RECOVER: "lua/queue_recover.lua";
    QUEUE_RETURN: "lua/queue_return.lua";
    RATE_LIMIT: "lua/rate_limit.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_what_it_takes_and_answers() {
        for (name, text) in ALL {
            for heading in ["KEYS: key.", "ARGV: ", "Replies: ", "Errors: "] {
                assert!(text.contains(heading), "{heading} is missing in {name}");
            }
        }
    }
}
