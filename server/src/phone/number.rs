//! Phone numbers: normalised to E.164, and which of them may register.

use std::fmt;

use phonenumber::Mode;
use phonenumber::metadata::{DATABASE, Descriptor};

use super::pasted;
use super::settings::RegistrationConfig;

/// Characters of a number as a client writes it at most; E.164 has 15 digits, the rest is for spaces and the like.
pub const NUMBER_CHARACTERS_MAX: usize = 32;

/// Bytes of it at most: characters that are pasted along may have four.
pub const NUMBER_BYTES_MAX: usize = 4 * NUMBER_CHARACTERS_MAX;

/// A number in E.164, without its plus sign: what the account's localpart is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    digits: Box<str>,
    /// How many of them are the country code.
    country: usize,
}

/// Why a number cannot register.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// No country code.
    #[error("the number must be in international form: a plus sign, the country code, the number")]
    NotInternational,
    /// Something else than digits, spaces, and `-./()`: this character.
    #[error(
        "the number has the character U+{:04X}, which no phone number has; write a plus sign, digits, spaces and -./()",
        u32::from(*.0)
    )]
    Characters(char),
    /// No numbering plan has it.
    #[error("there is no such number; check the country code and the digits")]
    Invalid,
    /// A fixed line, a freephone number, a pager…
    #[error("the number is not a mobile number; it could not receive the message")]
    NotMobile,
    /// Not in `registration.allowed_regions`.
    #[error("numbers of this region cannot register here")]
    Region,
    /// In `registration.denied_prefixes`.
    #[error("this number cannot register here")]
    Denied,
}

impl Number {
    /// Reads a number in international form. Says nothing about whether it may register: [`Number::admit`] does.
    ///
    /// # Errors
    /// Why it is no number.
    pub fn parse(text: &str) -> Result<Number, NumberError> {
        if text.len() > NUMBER_BYTES_MAX {
            return Err(NumberError::Invalid);
        }
        let text = pasted::plain(text);
        let text = text.trim();
        if text.len() > NUMBER_CHARACTERS_MAX {
            return Err(NumberError::Invalid);
        }
        let Some(rest) = text.strip_prefix('+') else { return Err(NumberError::NotInternational) };
        // The library would read letters as keys of a telephone, and extensions.
        let foreign = |one: &char| !one.is_ascii_digit() && !" -./()".contains(*one);
        if let Some(one) = rest.chars().find(foreign) {
            return Err(NumberError::Characters(one));
        }
        let plain: String = std::iter::once('+').chain(rest.chars().filter(char::is_ascii_digit)).collect();
        if plain.len() < 5 {
            return Err(NumberError::Invalid);
        }
        let parsed = phonenumber::parse(None, &plain).map_err(|_| NumberError::Invalid)?;
        if !parsed.is_valid() {
            return Err(NumberError::Invalid);
        }
        let written = parsed.format().mode(Mode::E164).to_string();
        let digits = written.strip_prefix('+').unwrap_or(&written);
        if !(5..=15).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NumberError::Invalid);
        }
        let country = parsed.code().value().to_string().len();
        Ok(Number { digits: digits.into(), country })
    }

    /// Whether the configuration lets it register.
    ///
    /// Where a numbering plan does not tell mobile numbers from fixed ones (North America), it is taken for a mobile
    /// one.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, config: &RegistrationConfig) -> Result<(), NumberError> {
        let prefix = |prefix: &String| self.digits.starts_with(prefix.strip_prefix('+').unwrap_or(prefix));
        if config.denied_prefixes.iter().any(prefix) {
            return Err(NumberError::Denied);
        }
        let parsed = phonenumber::parse(None, self.to_string()).map_err(|_| NumberError::Invalid)?;
        // Of the whole number, leading zeros included: in some plans they tell fixed lines from mobile ones.
        let national = parsed.national().to_string();
        let metadata = parsed.metadata(&DATABASE).ok_or(NumberError::NotMobile)?;
        if !config.allowed_regions.is_empty() && !config.allowed_regions.iter().any(|id| id == metadata.id())
        {
            return Err(NumberError::Region);
        }
        let kinds = metadata.descriptors();
        let is = |kind: Option<&Descriptor>| kind.is_some_and(|kind| kind.is_match(&national));
        let special = [
            kinds.premium_rate(),
            kinds.toll_free(),
            kinds.shared_cost(),
            kinds.voip(),
            kinds.personal_number(),
            kinds.pager(),
            kinds.uan(),
            kinds.voicemail(),
        ];
        // A plan without a pattern of its own for mobile numbers has the one of fixed lines in its place.
        if is(kinds.mobile()) && !special.into_iter().any(is) { Ok(()) } else { Err(NumberError::NotMobile) }
    }

    /// The digits: the localpart of the account.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// The number as logs may show it: country code and the last two digits.
    pub fn masked(&self) -> String {
        let (country, rest) = self.digits.split_at(self.country.min(self.digits.len()));
        let (hidden, shown) = rest.split_at(rest.len().saturating_sub(2));
        format!("+{country}{}{shown}", "*".repeat(hidden.len()))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RegistrationConfig {
        RegistrationConfig::default()
    }

    #[test]
    fn numbers_are_normalised_however_they_are_written() {
        let table = [
            ("+4915112345678", "4915112345678"),
            (" +49 (151) 123-456.78 ", "4915112345678"),
            ("+49 0151 12345678", "4915112345678"),
            ("+447700900123", ""),
            ("+44 7911 123456", "447911123456"),
            ("+1 202 555 0143", "12025550143"),
            ("+39 333 123 4567", "393331234567"),
            ("+225 07 12 34 56 78", "2250712345678"),
            ("+91 98765 43210", "919876543210"),
            ("+55 11 91234-5678", "5511912345678"),
            ("+7 912 345-67-89", "79123456789"),
            ("+86 138 1234 5678", "8613812345678"),
            // As they come out of address books and web pages.
            ("\u{202a}+49\u{a0}151\u{a0}12345678\u{202c}", "4915112345678"),
            ("\u{2066}+49 151\u{2011}123\u{202f}456\u{2007}78\u{2069}", "4915112345678"),
            ("\u{200e}+49\u{200f}15112345678", "4915112345678"),
            ("＋４９　（１５１）　１２３－４５６．７８", "4915112345678"),
        ];
        for (text, digits) in table {
            match Number::parse(text) {
                Ok(number) => {
                    assert_eq!((number.digits(), number.admit(&config())), (digits, Ok(())), "{text}");
                    let again = Number::parse(&number.to_string());
                    assert_eq!(again.as_ref(), Ok(&number), "{text}");
                }
                Err(error) => assert_eq!(digits, "", "{text}: {error}"),
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_reason() {
        let table = [
            ("", NumberError::NotInternational),
            ("015112345678", NumberError::NotInternational),
            ("004915112345678", NumberError::NotInternational),
            ("+49 151 CALL NOW", NumberError::Characters('C')),
            ("+49\u{661}5112345678", NumberError::Characters('\u{661}')),
            ("+49151\u{0}12345678", NumberError::Characters('\0')),
            ("+49 151\n12345678", NumberError::Characters('\n')),
            ("+49;ext=5", NumberError::Characters(';')),
            ("+49–151–12345678", NumberError::Characters('–')),
            ("+", NumberError::Invalid),
            ("+49", NumberError::Invalid),
            ("+4915", NumberError::Invalid),
            ("+999123456789", NumberError::Invalid),
            ("+491511234567812345678", NumberError::Invalid),
            ("+49151123456781234567812345678123", NumberError::Invalid),
            ("+1 100 000 0000", NumberError::Invalid),
        ];
        for (text, error) in table {
            assert_eq!(Number::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn only_numbers_that_may_be_mobile_register() {
        let table = [
            // Berlin, London, Rome, Novara (whose digits without the zero look like a mobile number).
            "+49 30 901820",
            "+44 20 7946 0958",
            "+39 06 6982 1234",
            "+39 0321 123456",
            // Freephone, premium rate.
            "+49 800 1234567",
            "+49 900 1234567",
            "+1 800 555 0199",
        ];
        for text in table {
            let admitted = Number::parse(text).map(|number| number.admit(&config()));
            assert!(
                matches!(admitted, Ok(Err(NumberError::NotMobile)) | Err(NumberError::Invalid)),
                "{text}: {admitted:?}"
            );
        }
    }

    #[test]
    fn the_operator_says_which_regions_and_prefixes_may_register() {
        let number = |text| Number::parse(text).unwrap();
        let german = RegistrationConfig { allowed_regions: vec!["DE".into()], ..config() };
        assert_eq!(number("+4915112345678").admit(&german), Ok(()));
        assert_eq!(number("+393331234567").admit(&german), Err(NumberError::Region));
        assert_eq!(number("+12025550143").admit(&german), Err(NumberError::Region));
        let denied = RegistrationConfig { denied_prefixes: vec!["+491511".into(), "7".into()], ..config() };
        assert_eq!(number("+4915112345678").admit(&denied), Err(NumberError::Denied));
        assert_eq!(number("+4917112345678").admit(&denied), Ok(()));
        assert_eq!(number("+79123456789").admit(&denied), Err(NumberError::Denied));
    }

    #[test]
    fn masked_numbers_show_the_country_and_two_digits() {
        assert_eq!(Number::parse("+4915112345678").unwrap().masked(), "+49*********78");
        assert_eq!(Number::parse("+12025550143").unwrap().masked(), "+1********43");
    }

    #[test]
    fn arbitrary_text_never_panics() {
        let mut seed = 1_u64;
        for _ in 0..1_000 {
            let mut text = String::from("+");
            for _ in 0..(seed >> 40) % 24 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(char::from(b"00112233445566778899 -()"[(seed >> 33) as usize % 24]));
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if let Ok(number) = Number::parse(&text) {
                let _ = number.admit(&config());
                assert_eq!(Number::parse(&number.to_string()).as_ref(), Ok(&number), "{text}");
            }
        }
    }
}
