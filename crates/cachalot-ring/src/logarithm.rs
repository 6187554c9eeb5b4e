/// `-ln(1 - gap)` for a `gap` above 0 and below 1, right to a few units in the last of 53 bits.
///
/// The logarithm of the platform differs between platforms in its last bit; this one adds, multiplies and divides,
/// which IEEE 754 defines to the bit.
pub(crate) fn minus_ln_1_minus(gap: f64) -> f64 {
    let rest = 1.0 - gap;
    let bits = rest.to_bits();
    let mut exponent = ((bits >> 52) as i32) - 1023;
    let mut fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if fraction > core::f64::consts::SQRT_2 {
        fraction *= 0.5;
        exponent += 1;
    }
    // ln f = 2 artanh((f - 1) / (f + 1)), whose argument is below 0.172 here.
    let slope = (fraction - 1.0) / (fraction + 1.0);
    let square = slope * slope;
    let mut series = 0.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = series * square + 1.0 / odd;
    }
    -(f64::from(exponent) * core::f64::consts::LN_2 + 2.0 * slope * series)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn it_agrees_with_the_logarithm_of_the_platform_to_its_last_bits() {
        for step in 1..100_000 {
            for gap in [f64::from(step) / 100_000.0, f64::from(step) * 1e-12, 1.0 - f64::from(step) * 1e-9] {
                let (ours, theirs) = (minus_ln_1_minus(gap), -(1.0 - gap).ln());
                assert!((ours - theirs).abs() <= 1e-15 * theirs.abs(), "{gap}: {ours} {theirs}");
            }
        }
    }
}
