//! A point at which a test stops others and lets them go.

use std::sync::Arc;

use tokio::sync::watch;

/// Stops whoever comes to it until the test lets them through. Clones are the same gate.
///
/// ```
/// # cachalot_testkit::block_on(async {
/// use cachalot_testkit::Gate;
///
/// let gate = Gate::closed();
/// let load = async {
///     gate.pass().await;
///     7
/// };
/// let meanwhile = async {
///     gate.reached(1).await; // the load stands at the gate: whatever happens here happens during it
///     gate.open();
/// };
/// assert_eq!(tokio::join!(load, meanwhile).0, 7);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_open: bool,
    arrivals: usize,
    /// How many may pass while it is closed.
    permits: usize,
}

impl Gate {
    /// A gate that lets nobody through yet.
    pub fn closed() -> Self {
        Self::in_state(State::default())
    }

    /// A gate that lets everybody through until it is closed.
    pub fn opened() -> Self {
        Self::in_state(State { is_open: true, ..State::default() })
    }

    /// Arrives, and waits until let through. Dropping the future leaves the gate; the arrival still counts.
    pub async fn pass(&self) {
        let mut changes = self.state.subscribe();
        self.state.send_modify(|state| state.arrivals += 1);
        loop {
            changes.mark_unchanged();
            if self.take_permit() {
                return;
            }
            // Fails only when the gate is gone, and `self` is here.
            let _ = changes.changed().await;
        }
    }

    /// Waits until `count` in all have arrived, those let through included.
    pub async fn reached(&self, count: usize) {
        let mut changes = self.state.subscribe();
        // Fails only when the gate is gone, and `self` is here.
        let _ = changes.wait_for(|state| state.arrivals >= count).await;
    }

    /// How many have arrived in all.
    pub fn arrivals(&self) -> usize {
        self.state.borrow().arrivals
    }

    /// Lets one through: one who waits, else the next to come.
    pub fn let_one(&self) {
        self.state.send_modify(|state| state.permits += 1);
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// Stops everybody who comes from now on.
    pub fn close(&self) {
        self.state.send_modify(|state| {
            state.is_open = false;
            state.permits = 0;
        });
    }

    fn in_state(state: State) -> Self {
        Self { state: Arc::new(watch::Sender::new(state)) }
    }

    fn take_permit(&self) -> bool {
        let mut may_pass = false;
        // Nobody waits for a permit to be used up.
        self.state.send_if_modified(|state| {
            may_pass = state.is_open || state.permits > 0;
            if !state.is_open {
                state.permits = state.permits.saturating_sub(1);
            }
            false
        });
        may_pass
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Poll;

    use futures_util::poll;

    use super::*;
    use crate::block_on;

    #[test]
    fn a_closed_gate_stops_and_an_open_one_does_not() {
        block_on(async {
            let gate = Gate::closed();
            let mut first = pin!(gate.pass());
            assert!(poll!(&mut first).is_pending());
            assert_eq!(gate.arrivals(), 1);
            gate.open();
            assert!(poll!(&mut first).is_ready());
            gate.pass().await;
            gate.close();
            assert!(poll!(pin!(gate.pass())).is_pending());
        });
    }

    #[test]
    fn letting_one_through_lets_exactly_one() {
        block_on(async {
            let gate = Gate::closed();
            let (mut first, mut second) = (pin!(gate.pass()), pin!(gate.pass()));
            assert!(is_stopped(first.as_mut()).await && is_stopped(second.as_mut()).await);
            gate.let_one();
            assert!(!is_stopped(first.as_mut()).await);
            assert!(is_stopped(second.as_mut()).await);
        });
    }

    async fn is_stopped(passing: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        poll!(passing) == Poll::Pending
    }

    #[test]
    fn arrivals_can_be_waited_for() {
        block_on(async {
            let gate = Gate::closed();
            let two = async {
                tokio::join!(gate.pass(), gate.pass());
            };
            let test = async {
                gate.reached(2).await;
                gate.open();
            };
            tokio::join!(two, test);
        });
    }
}
