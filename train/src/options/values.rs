//! Values that kohya writes as text.

use std::str::FromStr;

/// Why a text cannot be read as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// 8 is one pixel of the latent; above 16384 is a typing mistake.
    #[error("`{0}` is not a size in pixels (8 to 16384)")]
    Size(String),
    /// Neither one size nor two.
    #[error("give one size (512) or width,height (512,650)")]
    Sizes,
    /// No [`StepsOrShare`].
    #[error("`{0}` is neither a number of steps (100) nor a share of them (0.1, 10%)")]
    StepsOrShare(String),
    /// No [`KeyValue`].
    #[error("`{0}` is not of the form key=value")]
    KeyValue(String),
    /// The value of a [`KeyValue`] is not what its key needs.
    #[error("`{argument}`: expected {expected}")]
    Argument {
        /// Key and value.
        argument: KeyValue,
        /// What the key needs.
        expected: &'static str,
    },
    /// Not what is needed.
    #[error("{0}")]
    Needed(&'static str),
}

/// Width and height in pixels: `512` or `512,650`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

impl FromStr for Resolution {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let side = |text: &str| match text.trim().parse::<usize>() {
            Ok(side) if (8..=16384).contains(&side) => Ok(side),
            _ => Err(ValueError::Size(text.trim().to_owned())),
        };
        match text.split(',').collect::<Vec<_>>().as_slice() {
            [both] => side(both).map(|side| Self { width: side, height: side }),
            [width, height] => Ok(Self { width: side(width)?, height: side(height)? }),
            _ => Err(ValueError::Sizes),
        }
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A number of steps, or a share of all steps: `100`, `0.1`, `10%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepsOrShare {
    /// A number of steps.
    Steps(usize),
    /// A share of all steps, in [0, 1].
    Share(f64),
}

impl StepsOrShare {
    /// Whether it is above zero.
    pub fn is_some(self) -> bool {
        !matches!(self, Self::Steps(0)) && self != Self::Share(0.0)
    }

    /// The number of steps, of `total`. A share is rounded down, as kohya does.
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Steps(steps) => steps,
            Self::Share(share) => (share * total as f64) as usize,
        }
    }
}

impl FromStr for StepsOrShare {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::StepsOrShare(text.to_owned());
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0,
            // Whole numbers written as `100.0` come from TOML writers that know floats only.
            None => match text.parse::<f64>().map_err(|_| wrong())? {
                number if number >= 1.0 && number.fract() == 0.0 && number < 1e12 => return Ok(Self::Steps(number as usize)),
                0.0 => return Ok(Self::Steps(0)),
                number => number,
            },
        };
        if (0.0..1.0).contains(&share) || share == 1.0 { Ok(Self::Share(share)) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for StepsOrShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

/// `key=value`, as in `--network_args "conv_dim=4"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Left of the first equals sign.
    pub key: String,
    /// Right of it, without surrounding quotes.
    pub value: String,
}

impl FromStr for KeyValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (key, value) = text.split_once('=').ok_or_else(|| ValueError::KeyValue(text.to_owned()))?;
        let value = value.trim().trim_matches(['"', '\'']);
        Ok(Self { key: key.trim().to_owned(), value: value.to_owned() })
    }
}

impl std::fmt::Display for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl KeyValue {
    /// The value as a number.
    ///
    /// # Errors
    /// [`ValueError::Argument`].
    pub fn number<T: FromStr>(&self) -> Result<T, ValueError> {
        self.value.parse().map_err(|_| self.wrong("a number of the kind needed"))
    }

    /// The value as Python's `True` or `False`, in any case.
    ///
    /// # Errors
    /// [`ValueError::Argument`].
    pub fn flag(&self) -> Result<bool, ValueError> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.wrong("True or False")),
        }
    }

    /// The value as two numbers: `0.9,0.999`, with or without brackets.
    ///
    /// # Errors
    /// [`ValueError::Argument`].
    pub fn pair(&self) -> Result<(f64, f64), ValueError> {
        let inner = self.value.trim_matches(['(', ')', '[', ']']);
        let numbers: Vec<f64> = inner.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        match numbers[..] {
            [first, second] => Ok((first, second)),
            _ => Err(self.wrong("two numbers, like 0.9,0.999")),
        }
    }

    fn wrong(&self, expected: &'static str) -> ValueError {
        ValueError::Argument { argument: self.clone(), expected }
    }
}

/// A probability, in [0, 1].
///
/// # Errors
/// [`ValueError::Needed`].
pub fn probability(text: &str) -> Result<f64, ValueError> {
    number(text, |p| (0.0..=1.0).contains(&p), "a number from 0 to 1")
}

/// A finite number above zero.
///
/// # Errors
/// [`ValueError::Needed`].
pub fn positive(text: &str) -> Result<f64, ValueError> {
    number(text, |x| x > 0.0 && x.is_finite(), "a number above 0")
}

/// A finite number that is zero or above.
///
/// # Errors
/// [`ValueError::Needed`].
pub fn not_negative(text: &str) -> Result<f64, ValueError> {
    number(text, |x| x >= 0.0 && x.is_finite(), "a number that is 0 or above")
}

fn number(text: &str, fits: impl Fn(f64) -> bool, needed: &'static str) -> Result<f64, ValueError> {
    text.parse().ok().filter(|x| fits(*x)).ok_or(ValueError::Needed(needed))
}

/// Tokens per caption: one to three of kohya's chunks of 75.
///
/// # Errors
/// [`ValueError::Needed`].
pub fn token_length(text: &str) -> Result<usize, ValueError> {
    text.parse().ok().filter(|tokens| [75, 150, 225].contains(tokens)).ok_or(ValueError::Needed("one of 75, 150, 225"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_as_kohya_writes_them() {
        assert_eq!("512".parse(), Ok(Resolution { width: 512, height: 512 }));
        assert_eq!("512,650".parse(), Ok(Resolution { width: 512, height: 650 }));
        assert_eq!(" 512 , 650 ".parse(), Ok(Resolution { width: 512, height: 650 }));
        for wrong in ["", "512x512", "0", "1,2,3", "512,", "-512", "1000000"] {
            assert!(wrong.parse::<Resolution>().is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn warm_up_is_steps_or_a_share() {
        assert_eq!("100".parse(), Ok(StepsOrShare::Steps(100)));
        assert_eq!("0".parse(), Ok(StepsOrShare::Steps(0)));
        assert_eq!("0.1".parse(), Ok(StepsOrShare::Share(0.1)));
        assert_eq!("10%".parse(), Ok(StepsOrShare::Share(0.1)));
        assert_eq!(StepsOrShare::Share(0.1).of(1605), 160);
        for wrong in ["1.5", "-1", "ten", "110%", "NaN"] {
            assert!(wrong.parse::<StepsOrShare>().is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn arguments_of_networks_and_optimizers() {
        let betas: KeyValue = "betas=0.9,0.999".parse().unwrap();
        assert_eq!(betas.pair(), Ok((0.9, 0.999)));
        assert_eq!("betas=(0.9, 0.99)".parse::<KeyValue>().unwrap().pair(), Ok((0.9, 0.99)));
        assert_eq!("conv_dim='4'".parse::<KeyValue>().unwrap().number(), Ok(4usize));
        assert_eq!("use_tucker=True".parse::<KeyValue>().unwrap().flag(), Ok(true));
        assert!("conv_dim".parse::<KeyValue>().is_err());
    }
}
