//! The functions that the models need, made of additions, multiplications, divisions and square roots alone.
//!
//! Knows: arithmetic. Must not know: the models. The platform's own `ln` and `exp` differ in their last bits from
//! machine to machine; these do not, so that one seed gives one report everywhere.

const LN_2: f64 = std::f64::consts::LN_2;

/// The natural logarithm of a positive, finite, normal number, to about 15 digits.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)); the argument is at most 0.172, so 11 terms reach the last bit.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    let mut n = 21.0;
    while n > 0.0 {
        sum = sum * square + 1.0 / n;
        n -= 2.0;
    }
    2.0 * z * sum + exponent as f64 * LN_2
}

/// e to the power of `x`, to about 15 digits; 0 below -700, clamped above 700.
pub(crate) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = if x > 700.0 { 700.0 } else { x };
    let n = (x / LN_2 + if x < 0.0 { -0.5 } else { 0.5 }) as i64;
    let r = x - n as f64 * LN_2;
    let mut sum = 1.0;
    let mut k = 16.0;
    while k > 0.0 {
        sum = 1.0 + r * sum / k;
        k -= 1.0;
    }
    sum * f64::from_bits(((n + 1023) as u64) << 52)
}

/// The value below which a share `p` of the standard normal distribution lies; `p` strictly between 0 and 1.
///
/// Acklam's rational approximation, relative error below 1.2e-9.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    if p < 0.02425 {
        tail(p)
    } else if p > 1.0 - 0.02425 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        let r = q * q;
        q * horner(&A, r) / (horner(&B, r) * r + 1.0)
    }
}

fn tail(p: f64) -> f64 {
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let q = (-2.0 * ln(p)).sqrt();
    horner(&C, q) / (horner(&D, q) * q + 1.0)
}

fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_and_exp_agree_with_the_platform() {
        for x in [1e-300, 1e-9, 0.3, 0.5, 1.0, 1.2, std::f64::consts::E, 145.0, 6e9, 1e300] {
            assert!((ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0), "ln {x}");
        }
        for x in [-600.0, -30.0, -1.0, -1e-9, 0.0, 0.4, 1.0, 5.0, 40.0, 600.0f64] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-12, "exp {x}");
        }
        assert_eq!(exp(-1e6), 0.0);
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.9, 1.281_551_566), (0.001, -3.090_232_306)] {
            assert!((normal_quantile(p) - z).abs() < 1e-7, "{p}");
        }
    }
}
