//! Waiting until every member has applied an invalidation.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cachalot_core::{Member, PublisherId, Roll, Timestamp};

/// How far each of the others has acknowledged what this cache has announced.
#[derive(Debug, Default)]
pub struct Acks {
    up_to: HashMap<PublisherId, u64>,
}

/// How many are remembered. Beyond it all are forgotten, and asked again.
const MOST: usize = 1 << 14;

impl Acks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `by` has applied everything up to this number.
    pub fn note(&mut self, by: PublisherId, up_to: u64) {
        if self.up_to.len() >= MOST && !self.up_to.contains_key(&by) {
            self.up_to.clear();
        }
        let known = self.up_to.entry(by).or_default();
        *known = up_to.max(*known);
    }

    fn has(&self, by: PublisherId, number: u64) -> bool {
        self.up_to.get(&by).is_some_and(|up_to| *up_to >= number)
    }
}

/// One wait until each member has acknowledged a number, or is no member any more.
///
/// Begin it **when the invalidation is done and announced**, and only then read who is a member: whoever registers
/// later gives up what is from before, and need not be waited for. Feed it with each [roll](Confirming::on_roll) and
/// with [acks](Confirming::on_acks); when [`next_look`](Confirming::next_look) has come, read the roll again and
/// [ask](crate::Announcer::ask_again) those who have not answered.
///
/// A member that does not answer is waited for until its registration ends: from then on it serves nothing that it
/// had in memory ([`SelfLease`](crate::SelfLease)). So a wait lasts for one term and a round trip at most, as long
/// as the server can be asked.
///
/// A registry that is younger than a term may lack members that believe in an earlier one: until it has grown old
/// enough, nobody is struck off, and nothing is confirmed.
#[derive(Debug)]
pub struct Confirming {
    own: PublisherId,
    number: u64,
    term: Duration,
    /// Who has not answered. `None`: not known yet.
    waiting: Option<BTreeMap<PublisherId, Member>>,
    is_young: bool,
    pause: Duration,
    look_at: Timestamp,
}

/// How long it is waited for answers before the roll is read again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Confirming {
    /// Waits for `number`, the highest that the invalidation may have, on behalf of `own`, who has done it. `term`:
    /// the longest of all members.
    pub fn new(own: PublisherId, number: u64, term: Duration, now: Timestamp) -> Self {
        Self { own, number, term, waiting: None, is_young: true, pause: FIRST_PAUSE, look_at: now }
    }

    /// Who is a member, as the server said when it was asked after this wait had begun.
    pub fn on_roll(&mut self, roll: Roll, now: Timestamp) {
        self.is_young = roll.age < self.term;
        self.look_at = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.is_young {
            self.look_at = self.look_at.min(now + (self.term - roll.age));
        }
        let listed: BTreeMap<_, _> =
            roll.members.into_iter().map(|(member, left)| (member.id(), (member, left))).collect();
        match &mut self.waiting {
            Some(waiting) if !self.is_young => waiting.retain(|id, _| listed.contains_key(id)),
            Some(_) => {}
            None => {
                let others = listed.values().filter(|(member, _)| member.id() != self.own);
                let others = others.map(|(member, _)| (member.id(), member.clone()));
                self.waiting = Some(others.collect());
            }
        }
        // As soon as one of them may be struck off.
        let waiting = self.waiting.iter().flat_map(BTreeMap::keys);
        let left = waiting.filter_map(|id| listed.get(id)).map(|(_, left)| *left).min();
        self.look_at = self.look_at.min(left.map_or(Timestamp::NEVER, |left| now + left));
    }

    /// The roll could not be read.
    pub fn on_failure(&mut self, now: Timestamp) {
        self.look_at = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// What was acknowledged so far.
    pub fn on_acks(&mut self, acks: &Acks) {
        if let Some(waiting) = &mut self.waiting {
            waiting.retain(|id, _| !acks.has(*id, self.number));
        }
    }

    /// Whether nobody is left who could serve a value from before.
    pub fn is_confirmed(&self) -> bool {
        !self.is_young && self.waiting.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// When the roll is to be read again, and those who have not answered to be asked.
    pub fn next_look(&self) -> Timestamp {
        self.look_at
    }

    /// Who has not answered, of those that are known.
    pub fn unanswered(&self) -> Vec<Member> {
        self.waiting.iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Whether there may be others who have not: the roll could not be read, or is too young to be complete.
    pub fn may_lack_some(&self) -> bool {
        self.is_young || self.waiting.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(10);
    const OLD: Duration = Duration::from_secs(3600);

    fn id(n: u8) -> PublisherId {
        PublisherId::from_bytes([n; 16])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    fn roll(ids: &[u8], age: Duration) -> Roll {
        let member = |n: &u8| (Member::new(id(*n), "node"), TERM);
        Roll { members: ids.iter().map(member).collect(), age }
    }

    fn confirming() -> Confirming {
        Confirming::new(id(0), 5, TERM, at(0))
    }

    fn unanswered(confirming: &Confirming) -> Vec<PublisherId> {
        confirming.unanswered().iter().map(Member::id).collect()
    }

    #[test]
    fn a_member_is_waited_for_until_it_acknowledges_the_number_or_a_later_one() {
        let (mut confirming, mut acks) = (confirming(), Acks::new());
        assert!(!confirming.is_confirmed() && confirming.may_lack_some());
        confirming.on_roll(roll(&[0, 1, 2], OLD), at(0));
        assert!(!confirming.may_lack_some());
        acks.note(id(1), 4);
        acks.note(id(2), 6);
        acks.note(id(2), 3);
        confirming.on_acks(&acks);
        assert_eq!(unanswered(&confirming), [id(1)]);
        acks.note(id(1), 5);
        confirming.on_acks(&acks);
        assert!(confirming.is_confirmed());
    }

    #[test]
    fn one_that_is_alone_need_not_wait() {
        for roll in [roll(&[0], OLD), roll(&[], OLD)] {
            let mut confirming = confirming();
            confirming.on_roll(roll, at(0));
            assert!(confirming.is_confirmed());
        }
    }

    #[test]
    fn whose_registration_has_ended_is_waited_for_no_longer_and_who_came_later_never() {
        let mut confirming = confirming();
        confirming.on_roll(roll(&[0, 1, 2], OLD), at(0));
        confirming.on_roll(roll(&[0, 2, 3], OLD), at(100));
        assert_eq!(unanswered(&confirming), [id(2)]);
        confirming.on_roll(roll(&[0, 3], OLD), at(200));
        assert!(confirming.is_confirmed());
    }

    #[test]
    fn a_young_registry_confirms_nothing_and_strikes_nobody_off() {
        let mut confirming = confirming();
        confirming.on_roll(roll(&[0, 1], OLD), at(0));
        confirming.on_roll(roll(&[0], Duration::ZERO), at(100));
        assert_eq!(unanswered(&confirming), [id(1)], "it believes in the registry that was lost");
        assert!(confirming.may_lack_some() && !confirming.is_confirmed());
        confirming.on_roll(roll(&[0], TERM - Duration::from_millis(1)), at(9_000));
        assert!(!confirming.is_confirmed());
        assert_eq!(confirming.next_look(), at(9_001));
        confirming.on_roll(roll(&[0], TERM), at(9_001));
        assert!(confirming.is_confirmed());
    }

    #[test]
    fn it_looks_again_ever_more_rarely_but_as_soon_as_a_registration_ends() {
        let mut confirming = confirming();
        assert_eq!(confirming.next_look(), at(0));
        let mut looks = Vec::new();
        for _ in 0..6 {
            let now = confirming.next_look();
            confirming.on_roll(roll(&[0, 1], OLD), now);
            looks.push(confirming.next_look().since(now).as_millis());
        }
        assert_eq!(looks, [100, 200, 400, 800, 1600, 2000]);
        let mut ending = roll(&[0, 1], OLD);
        ending.members[1].1 = Duration::from_millis(7);
        confirming.on_roll(ending, at(0));
        assert_eq!(confirming.next_look(), at(7));
    }

    #[test]
    fn acks_stay_bounded() {
        let mut acks = Acks::new();
        for n in 0..20_000u128 {
            acks.note(PublisherId::from_bytes(n.to_be_bytes()), 1);
        }
        assert!(acks.up_to.len() <= MOST);
        assert!(acks.has(PublisherId::from_bytes(19_999u128.to_be_bytes()), 1));
    }
}
