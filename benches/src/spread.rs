//! Medians and quartiles, and how figures are written.

/// The middle half of some values, and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle; of two there, what lies between them.
    pub median: f64,
    /// Between which the middle half lies.
    pub quartiles: (f64, f64),
    /// The least and the greatest.
    pub ends: (f64, f64),
    /// How many values there are.
    pub rounds: usize,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
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
    pub fn single(value: f64) -> Self {
        Self::of([value])
    }
}

/// `value` with three digits that matter; more only before the point.
pub fn number(value: f64) -> String {
    match value {
        _ if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
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

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let written = [0.5, 9.876, 98.76, 987.6, 3.0, 98_765.4].map(number);
        assert_eq!(written, ["0.50", "9.88", "98.8", "988", "3", "98765"]);
    }
}
