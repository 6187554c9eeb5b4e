//! The scripts of `plain/lua`. A value, its lock and its tags are several keys: one server, no cluster.

use std::sync::LazyLock;

use crate::script::Script;

const PRELUDE: &str = include_str!("lua/prelude.lua");

macro_rules! scripts {
    ($($name:ident: $($file:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::of([PRELUDE, $(include_str!($file)),+].join("\n")));)*

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), concat!($(include_str!($file)),+)),)*];
    };
}

scripts! {
    READ: "lua/read.lua";
    GET_OR_LEASE: "lua/get_or_lease.lua";
    PUT_LEASED: "lua/store.lua" "lua/put_leased.lua";
    PUT_HELD: "lua/store.lua" "lua/put_held.lua";
    HOLD: "lua/hold.lua";
    RELEASE: "lua/release.lua";
    REMOVE: "lua/remove.lua";
    UNTAG: "lua/untag.lua";
    TOUCH: "lua/touch.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_what_it_takes_and_answers() {
        for (name, text) in ALL {
            for heading in ["KEYS: ", "ARGV: ", "Replies: "] {
                assert!(text.contains(heading), "{heading} is missing in {name}");
            }
        }
    }
}
