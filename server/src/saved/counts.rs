//! What is in a state, by name: records of each kind, and what else an owner counts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Numbers by name. One that is 0 is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(BTreeMap<Cow<'static, str>, u64>);

impl Counts {
    /// Adds to one of them.
    pub fn add(&mut self, name: &'static str, more: u64) {
        if more == 0 {
            return;
        }
        match self.0.get_mut(name) {
            Some(count) => *count += more,
            None => drop(self.0.insert(Cow::Borrowed(name), more)),
        }
    }

    /// Adds all of another part.
    pub fn add_all(&mut self, other: &Counts) {
        for (name, more) in &other.0 {
            *self.0.entry(name.clone()).or_default() += more;
        }
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The first name whose number is another one in `other`, with both.
    #[must_use]
    pub fn difference(&self, other: &Counts) -> Option<(String, u64, u64)> {
        let names = self.0.keys().chain(other.0.keys());
        let mut pairs = names.map(|name| (name.to_string(), self.of(name), other.of(name)));
        pairs.find(|(_, own, others)| own != others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_a_difference_is_named() {
        let (mut one, mut other) = (Counts::default(), Counts::default());
        one.add("bound", 3);
        one.add("waiting", 0);
        other.add("bound", 2);
        assert_eq!(one.difference(&other), Some(("bound".into(), 3, 2)));
        other.add("bound", 1);
        assert_eq!(one.difference(&other), None);
        other.add("log", 1);
        assert_eq!(one.difference(&other), Some(("log".into(), 0, 1)));
        one.add_all(&other);
        assert_eq!((one.of("bound"), one.of("log"), one.of("waiting")), (6, 1, 0));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), one);
    }
}
