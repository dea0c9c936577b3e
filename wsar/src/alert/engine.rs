//! Which rules are in force. A rule comes into force when its figure has been out of bounds for its time without a
//! break, and goes when the figure has been back, past the clear level, for the same time. Anything that is between the two
//! levels changes nothing, so that nothing flaps.

use std::collections::BTreeMap;

use super::builtin;
use super::rules::{Rule, Seen};
use crate::delta::Delta;

/// A rule has come into force or has gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its name.
    pub rule: String,
    /// Whether it is in force now.
    pub in_force: bool,
    /// The figure. `None`: its metric is missing.
    pub figure: Option<f64>,
    /// The level that was passed.
    pub level: f64,
    /// Unix time, milliseconds.
    pub time_ms: u64,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = crate::time::date_and_time(self.time_ms);
        let (what, figure, level) = (if self.in_force { "ALERT" } else { "clear" }, self.figure, self.level);
        match figure {
            Some(figure) => write!(f, "{time} {what} {}: {figure:.1}, level {level}", self.rule),
            None => {
                write!(f, "{time} {what} {}: there is no figure, because its metric is missing", self.rule)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    in_force: bool,
    /// Since when the figure has spoken for a change.
    since_ms: Option<u64>,
    figure: Option<f64>,
    begun_ms: u64,
}

/// The rules and how they stand.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Rule>,
    builtin: Vec<Rule>,
    with_builtin: bool,
    standing: BTreeMap<String, Standing>,
}

impl Engine {
    /// With some rules, and the built-in ones, too.
    pub fn new(rules: Vec<Rule>, with_builtin: bool) -> Engine {
        Engine { rules, builtin: Vec::new(), with_builtin, standing: BTreeMap::new() }
    }

    /// Looks at new figures, and returns what has changed.
    pub fn look(&mut self, delta: &Delta<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.builtin = if self.with_builtin { builtin::rules(delta) } else { Vec::new() };
        let own = self.rules.iter().map(|rule| (rule, rule.look(delta)));
        // That the server is down is one rule; each other one need not say it again.
        let builtin = self.builtin.iter().map(|rule| match rule.look(delta) {
            Seen::Missing => (rule, Seen::Nothing),
            seen => (rule, seen),
        });
        for (rule, seen) in own.chain(builtin) {
            let standing = self.standing.entry(rule.name.clone()).or_default();
            changes.extend(step(rule, standing, seen, delta.latest().time_ms));
        }
        changes
    }

    /// The rules as they were looked at last.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().chain(&self.builtin)
    }

    /// The rules in force: name, figure, since when (Unix time, milliseconds).
    pub fn in_force(&self) -> impl Iterator<Item = (&str, Option<f64>, u64)> {
        let all = self.standing.iter().filter(|(_, standing)| standing.in_force);
        all.map(|(name, standing)| (name.as_str(), standing.figure, standing.begun_ms))
    }
}

fn step(rule: &Rule, standing: &mut Standing, seen: Seen, now_ms: u64) -> Option<Change> {
    let (figure, speaks) = match seen {
        // What is not known speaks for nothing.
        Seen::Nothing => {
            standing.since_ms = None;
            return None;
        }
        // Nobody would hear of what is wrong if it were missed in silence.
        Seen::Missing => (None, !standing.in_force),
        Seen::Figure(figure) if standing.in_force => (Some(figure), rule.is_back(figure)),
        Seen::Figure(figure) => (Some(figure), rule.is_out(figure)),
    };
    standing.figure = figure;
    if !speaks {
        standing.since_ms = None;
        return None;
    }
    let since = *standing.since_ms.get_or_insert(now_ms);
    if now_ms.saturating_sub(since) < rule.for_ms {
        return None;
    }
    standing.in_force = !standing.in_force;
    standing.since_ms = None;
    standing.begun_ms = now_ms;
    let level = rule.above.or(rule.below).unwrap_or(0.0);
    let level = if standing.in_force { level } else { rule.clear.unwrap_or(level) };
    Some(Change { rule: rule.name.clone(), in_force: standing.in_force, figure, level, time_ms: now_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes (second, in force) that figures of each second cause.
    fn changes(rule: &Rule, figures: &[Seen]) -> Vec<(usize, bool)> {
        let mut standing = Standing::default();
        let step = |(second, figure): (usize, &Seen)| {
            step(rule, &mut standing, *figure, second as u64 * 1_000).map(|change| (second, change.in_force))
        };
        figures.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn a_rule_needs_its_time_and_does_not_flap() {
        let rule = |above, below, clear| Rule {
            name: "r".into(),
            cure: None,
            metric: "m".into(),
            of: None,
            above,
            below,
            clear,
            for_ms: 2_000,
        };
        let above = rule(Some(10.0), None, Some(5.0));
        let some = |figures: &[f64]| figures.iter().map(|&figure| Seen::Figure(figure)).collect::<Vec<_>>();
        type Case<'a> = (&'a [f64], &'a [(usize, bool)]);
        let cases: [Case<'_>; 5] = [
            (&[11.0, 11.0, 9.0, 11.0, 11.0], &[]),
            (&[11.0, 11.0, 11.0], &[(2, true)]),
            (&[11.0, 11.0, 11.0, 9.0, 11.0, 6.0, 12.0, 8.0, 7.0], &[(2, true)]),
            (&[11.0, 11.0, 11.0, 4.0, 4.0, 6.0, 4.0, 4.0, 4.0], &[(2, true), (8, false)]),
            (&[10.0, 10.0, 10.0, 10.0], &[]),
        ];
        for (figures, expected) in cases {
            assert_eq!(changes(&above, &some(figures)), expected, "{figures:?}");
        }
        let below = rule(None, Some(5.0), Some(8.0));
        let figures = some(&[4.0, 4.0, 4.0, 6.0, 6.0, 6.0, 8.0, 9.0, 8.0]);
        assert_eq!(changes(&below, &figures), [(2, true), (8, false)]);
        let (some, none, missing) = (Seen::Figure(11.0), Seen::Nothing, Seen::Missing);
        let gaps = [some, some, none, some, some, some, none, none, none];
        assert_eq!(changes(&above, &gaps), [(5, true)]);
        let low = Seen::Figure(4.0);
        let away = [low, missing, missing, missing, missing, low, low, low];
        assert_eq!(changes(&above, &away), [(3, true), (7, false)], "a missing figure raises");
        assert_eq!(changes(&above, &[low, missing, low, missing, low]), []);
    }
}
