//! Functions of numbers.

/// Beyond this a 64-bit number has no digits left.
const MAX_DIGITS: u8 = 15;

/// A linear function, rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    factor: f64,
    offset: f64,
    round: Option<u8>,
}

impl Scale {
    /// Multiplies, then adds, then rounds to so many digits after the point.
    ///
    /// # Errors
    /// What to write instead, where no 64-bit number has so many digits.
    pub fn new(factor: f64, offset: f64, round: Option<u8>) -> Result<Self, String> {
        match round {
            Some(digits) if digits > MAX_DIGITS => Err(format!("round = {digits}, write at most {MAX_DIGITS}")),
            _ => Ok(Self { factor, offset, round }),
        }
    }

    /// The value of the function, which may be infinite.
    pub fn of(self, number: f64) -> f64 {
        let scaled = number * self.factor + self.offset;
        self.round.map_or(scaled, |digits| round_to_digits(scaled, digits))
    }
}

/// Rounded to so many digits after the point.
pub fn round_to_digits(number: f64, digits: u8) -> f64 {
    let shift = 10_f64.powi(i32::from(digits));
    let shifted = number * shift;
    // So large that it has no digits after the point anyway.
    if shifted.is_finite() {
        shifted.round() / shift
    } else {
        number
    }
}
