//! Rules and actions as TOML, and those that are built in.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::delta::Delta;
use crate::table::server;
use crate::time;

/// Why rules cannot be used.
#[derive(Debug, Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It is not what it should be.
    #[error("{0}: {1}")]
    Parse(PathBuf, toml::de::Error),
    /// A rule contradicts itself.
    #[error("{0}: rule `{1}`: {2}")]
    Rule(PathBuf, String, &'static str),
}

/// Rules and what to do when one comes into force or goes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Whether the built-in rules apply, too.
    #[serde(default = "yes")]
    pub builtin: bool,
    /// The rules.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    /// Actions, each for all rules.
    #[serde(default, rename = "action")]
    pub actions: Vec<Action>,
}

fn yes() -> bool {
    true
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, in messages.
    pub name: String,
    /// What to do about it, in one sentence; shown on the page.
    #[serde(default)]
    pub cure: Option<String>,
    /// What it watches: the name of a metric; `NAME@INSTANCE` of one instance, `NAME:p99` a quantile of a histogram.
    /// A counter is watched by its rate a second. `full:QUEUE` is how full a queue is in percent, `mean:SUM/COUNT`
    /// the mean of what a counter adds up.
    pub metric: String,
    /// Another metric: what is watched is the percentage that the first is of it.
    #[serde(default)]
    pub of: Option<String>,
    /// In force when the figure is above this.
    #[serde(default)]
    pub above: Option<f64>,
    /// In force when the figure is below this.
    #[serde(default)]
    pub below: Option<f64>,
    /// No longer in force when the figure is back at this level; when not given, at the level itself.
    #[serde(default)]
    pub clear: Option<f64>,
    /// How long the figure must be out of bounds, or back, before the rule comes into force, or goes.
    #[serde(default = "some_seconds", rename = "for", deserialize_with = "length")]
    pub for_ms: u64,
}

pub(super) const FOR_MS: u64 = 5_000;

/// A metric that only rules have: 1 while the server runs, 0 while it does not.
pub const UP: &str = "up";

/// Another: refusals a second, whatever the limit.
pub const REFUSED: &str = "refused";

/// Another: days until the certificate expires.
pub const CERTIFICATE_DAYS: &str = "certificate.days";

/// The metrics from which those that only rules have are made; `None`: it is none of them. For [`REFUSED`] the beginning of
/// their names.
pub(super) fn made_of(metric: &str) -> Option<&'static str> {
    match metric {
        UP => Some("server.uptime"),
        REFUSED => Some("refused."),
        CERTIFICATE_DAYS => Some("tls.certificate.expires"),
        _ => None,
    }
}

fn certificate_days(delta: &Delta<'_>) -> Option<f64> {
    let expires = delta.sum("tls.certificate.expires", None).filter(|&expires| expires > 0.0)?;
    Some((expires - delta.latest().time_ms as f64 / 1000.0) / 86_400.0)
}

fn some_seconds() -> u64 {
    FOR_MS
}

fn length<'de, D: serde::Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    let text = String::deserialize(input)?;
    let wrong =
        || serde::de::Error::custom(format!("`{text}` is not a length of time; write \"30s\" or \"10m\""));
    time::duration(&text).ok_or_else(wrong)
}

/// What a rule sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// A figure.
    Figure(f64),
    /// The metric is there and has no value now, as the latency of an event loop that did nothing.
    Nothing,
    /// There is no such metric now: its server or source is away.
    Missing,
}

/// What to do when a rule comes into force or goes. Messages are always written to standard output, too.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Action {
    /// Run a program with these arguments.
    Command(Vec<String>),
    /// Send a POST request with JSON to this address.
    Webhook(String),
    /// Append a line to this file.
    Log(PathBuf),
}

impl Rules {
    /// The rules of a file.
    ///
    /// # Errors
    /// It cannot be read, or is wrong; the error says where.
    pub fn read(path: &Path) -> Result<Rules, RulesError> {
        let text = std::fs::read_to_string(path).map_err(|error| RulesError::Read(path.to_owned(), error))?;
        Rules::parse(&text, path)
    }

    /// The rules of a text; `path` is for messages.
    ///
    /// # Errors
    /// See [`Rules::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Rules, RulesError> {
        let rules: Rules = toml::from_str(text).map_err(|error| RulesError::Parse(path.to_owned(), error))?;
        for rule in &rules.rules {
            rule.check().map_err(|what| RulesError::Rule(path.to_owned(), rule.name.clone(), what))?;
        }
        Ok(rules)
    }
}

impl Rule {
    /// Whether the rule makes sense.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), &'static str> {
        match (self.above, self.below, self.clear) {
            (Some(_), Some(_), _) => Err("it has both `above` and `below`; make two rules of it"),
            (None, None, _) => Err("it has neither `above` nor `below`"),
            (Some(level), _, Some(clear)) if clear > level => Err("`clear` must not be higher than `above`"),
            (_, Some(level), Some(clear)) if clear < level => Err("`clear` must not be lower than `below`"),
            _ => Ok(()),
        }
    }

    /// What the rule sees between two samples.
    pub fn look(&self, delta: &Delta<'_>) -> Seen {
        match self.figure(delta) {
            Some(figure) => Seen::Figure(figure),
            None if self.needs(delta) => Seen::Nothing,
            None => Seen::Missing,
        }
    }

    /// Whether all metrics that the rule needs are in the later sample.
    fn needs(&self, delta: &Delta<'_>) -> bool {
        let schema = &delta.latest().schema;
        let there = |what: &str| {
            let (what, instance) = what.split_once('@').map_or((what, None), |(what, one)| (what, Some(one)));
            let name = what.split_once(":p").map_or(what, |(name, _)| name);
            match instance {
                Some(instance) => schema.find(name, instance).is_some(),
                None => !schema.named(name).is_empty(),
            }
        };
        let watched = match self.metric.split_once(':') {
            Some(("full", queue)) => there(&format!("queue.{queue}.length")),
            Some(("mean", pair)) => pair.split('/').all(there),
            _ => match made_of(&self.metric) {
                // That it is not there is what it watches.
                _ if self.metric == UP => true,
                Some(begin) => schema.series().iter().any(|series| series.name.starts_with(begin)),
                None => there(&self.metric),
            },
        };
        watched && self.of.as_deref().is_none_or(there)
    }

    /// The figure that the rule watches. `None`: there is none.
    pub fn figure(&self, delta: &Delta<'_>) -> Option<f64> {
        let value = match self.metric.split_once(':') {
            None if self.metric == UP => {
                Some(if delta.sum("server.uptime", None).is_some() { 1.0 } else { 0.0 })
            }
            None if self.metric == REFUSED => server::refused(delta),
            None if self.metric == CERTIFICATE_DAYS => certificate_days(delta),
            Some(("full", queue)) => server::fullness(delta, queue),
            Some(("mean", pair)) => {
                let (sum, count) = pair.split_once('/')?;
                let count = delta.grown(count, None).filter(|&count| count > 0.0)?;
                delta.grown(sum, None).map(|sum| sum / count)
            }
            _ => delta.figure(&self.metric),
        }?;
        match &self.of {
            None => Some(value),
            Some(of) => delta.figure(of).filter(|&of| of > 0.0).map(|of| value * 100.0 / of),
        }
    }

    /// Whether a figure is out of bounds.
    pub fn is_out(&self, figure: f64) -> bool {
        self.above.is_some_and(|level| figure > level) || self.below.is_some_and(|level| figure < level)
    }

    /// Whether a figure is well within bounds.
    pub fn is_back(&self, figure: f64) -> bool {
        match (self.above, self.below) {
            (Some(level), _) => figure <= self.clear.unwrap_or(level),
            (_, Some(level)) => figure >= self.clear.unwrap_or(level),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_wrong_ones_are_named() {
        let path = Path::new("rules.toml");
        let rules = Rules::parse(
            "builtin = false\n\
             [[rule]]\nname = 'slow'\nmetric = 'loop.latency:p99'\nabove = 5e4\nclear = 1e4\nfor = '10s'\n\
             [[rule]]\nname = 'idle'\nmetric = 'messages.in'\nbelow = 1\n\
             [[action]]\ncommand = ['/bin/true', 'x']\n[[action]]\nwebhook = 'http://127.0.0.1:1/'\n",
            path,
        )
        .unwrap();
        assert_eq!((rules.builtin, rules.rules.len(), rules.actions.len()), (false, 2, 2));
        assert_eq!((rules.rules[0].for_ms, rules.rules[1].for_ms), (10_000, 5_000));
        for (text, said) in [
            ("[[rule]]\nname = 'a'\nmetric = 'b'", "neither `above` nor `below`"),
            ("[[rule]]\nname = 'a'\nmetric = 'b'\nabove = 1\nbelow = 0", "both"),
            ("[[rule]]\nname = 'a'\nmetric = 'b'\nabove = 1\nclear = 2", "must not be higher"),
            ("[[rule]]\nname = 'a'\nmetric = 'b'\nbelow = 2\nclear = 1", "must not be lower"),
            ("[[rule]]\nname = 'a'\nmetrics = 'b'\nabove = 1", "unknown field `metrics`"),
            ("[[rule]]\nname = 'a'\nmetric = 'b'\nabove = 1\nfor = 'ever'", "not a length of time"),
            ("[[action]]\nmail = 'x'", "unknown variant `mail`"),
        ] {
            let error = Rules::parse(text, path).unwrap_err().to_string();
            assert!(error.contains(said) && error.starts_with("rules.toml"), "{error}");
        }
    }
}
