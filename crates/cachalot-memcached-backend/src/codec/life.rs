//! How long something lives, as memcached counts it: whole seconds.

use std::time::Duration;

/// The longest life that is counted, s: ten years.
pub const LONGEST: u32 = 10 * 365 * 24 * 3600;

/// Up to here a number is a time from now; beyond, a moment.
const RELATIVE: u32 = 30 * 24 * 3600;

/// The last moment that a server can name.
const LAST_MOMENT: u64 = i32::MAX as u64;

/// `life` in whole seconds, rounded up, at least one: no life at all would mean "for ever". Cut to [`LONGEST`], and to
/// what the server can name when its clock stands at `unix_now`, seconds.
pub fn seconds(life: Duration, unix_now: u64) -> u32 {
    let whole = life.as_secs().saturating_add(u64::from(life.subsec_nanos() > 0));
    let most = LAST_MOMENT.saturating_sub(unix_now).max(RELATIVE.into()).min(LONGEST.into());
    u32::try_from(whole.clamp(1, most)).unwrap_or(RELATIVE)
}

/// The seconds of a term that must not end early: [`seconds`] and one more, since the first may end at once.
pub fn term(term: Duration, unix_now: u64) -> u32 {
    seconds(term, unix_now).saturating_add(1).min(LONGEST)
}

/// What the server is told for a life of so many seconds; 0 for one without an end. Beyond 30 days that is the moment of
/// its end, by the server's clock, which stands at `unix_now`.
pub fn argument(seconds: u32, unix_now: u64) -> u64 {
    match seconds {
        0..=RELATIVE => seconds.into(),
        _ => unix_now.saturating_add(seconds.into()).min(LAST_MOMENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn lives_are_told_in_seconds_rounded_up_and_as_moments_beyond_thirty_days() {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let table = [
            (Duration::ZERO, 1),
            (Duration::from_millis(1), 1),
            (second, 1),
            (second + Duration::from_nanos(1), 2),
            (30 * day, 2_592_000),
            (30 * day + Duration::from_millis(1), NOW + 2_592_001),
            (30 * day + second, NOW + 2_592_001),
            (365 * day, NOW + 31_536_000),
            (Duration::MAX, NOW + u64::from(LONGEST)),
        ];
        for (life, told) in table {
            assert_eq!(argument(seconds(life, NOW), NOW), told, "{life:?}");
        }
        assert_eq!(argument(0, NOW), 0, "for ever");
    }

    #[test]
    fn a_term_has_a_second_more_than_was_asked_for() {
        for (asked, told) in [(1, 2), (999, 2), (1000, 2), (1001, 3), (20_000, 21)] {
            assert_eq!(term(Duration::from_millis(asked), NOW), told, "{asked}");
        }
        assert_eq!(term(Duration::MAX, NOW), LONGEST);
    }

    #[test]
    fn no_moment_is_named_that_the_server_cannot_count() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for now in [LAST_MOMENT - 40 * 24 * 3600, LAST_MOMENT - 5, LAST_MOMENT + 5] {
            let seconds = seconds(year, now);
            let told = argument(seconds, now);
            assert!(seconds >= RELATIVE && told <= LAST_MOMENT, "{now}: {told}");
            // A moment that has passed would end it at once.
            assert!(told <= RELATIVE.into() || told > now, "{now}: {told}");
        }
    }
}
