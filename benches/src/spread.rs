//! Medians and quartiles.

/// The middle half of some values, and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) quartiles: (f64, f64),
    pub(crate) ends: (f64, f64),
    pub(crate) rounds: usize,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&sorted, share);
        Self {
            median: at(0.5),
            quartiles: (at(0.25), at(0.75)),
            ends: (at(0.0), at(1.0)),
            rounds: sorted.len(),
        }
    }

    /// One value, measured once.
    pub(crate) fn single(value: f64) -> Self {
        Self::of([value])
    }
}

/// Between the two values next to it, in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_their_neighbours_in_proportion() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread.median, 2.5);
        assert_eq!(spread.quartiles, (1.75, 3.25));
        assert_eq!(spread.ends, (1.0, 4.0));
        assert_eq!(Spread::single(5.0).quartiles, (5.0, 5.0));
    }
}
