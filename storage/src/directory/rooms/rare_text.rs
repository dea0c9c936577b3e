//! A text that most rooms do not have.

use std::fmt;
use std::ops::Deref;

/// A text that takes eight bytes while it is empty.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct RareText(Option<Box<Box<str>>>);

const _: () = assert!(size_of::<RareText>() == 8);

impl RareText {
    /// It is empty now.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

impl Deref for RareText {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_ref().map_or("", |text| text)
    }
}

impl From<&str> for RareText {
    fn from(text: &str) -> Self {
        Self((!text.is_empty()).then(|| Box::new(text.into())))
    }
}

impl From<String> for RareText {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl PartialEq<&str> for RareText {
    fn eq(&self, text: &&str) -> bool {
        **self == **text
    }
}

impl fmt::Debug for RareText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_was_put_into_it() {
        for text in ["", "x", "two words"] {
            let rare = RareText::from(text);
            assert_eq!((&*rare, rare.is_empty(), rare == text), (text, text.is_empty(), true));
            assert_eq!((rare.0.is_none(), RareText::from(text.to_owned())), (text.is_empty(), rare));
        }
        let mut cleared = RareText::from("x");
        cleared.clear();
        assert_eq!(cleared, RareText::default());
    }
}
