//! Which rules are in force. A rule comes into force when its figure has been out of bounds for its time without a
//! break, and goes when the figure has been back, past the clear level, for the same time. What is between the two
//! levels changes nothing, so that nothing flaps.

use std::collections::BTreeMap;

use super::rules::{Rule, builtin};
use crate::delta::Delta;

/// A rule has come into force or has gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its name.
    pub rule: String,
    /// Whether it is in force now.
    pub in_force: bool,
    /// The figure.
    pub figure: f64,
    /// The level that was passed.
    pub level: f64,
    /// Unix time, milliseconds.
    pub time_ms: u64,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = crate::time::date_and_time(self.time_ms);
        let (what, figure, level) = (if self.in_force { "ALERT" } else { "clear" }, self.figure, self.level);
        write!(f, "{time} {what} {}: {figure:.1}, level {level}", self.rule)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    in_force: bool,
    /// Since when the figure has spoken for a change.
    since_ms: Option<u64>,
    figure: f64,
    begun_ms: u64,
}

/// The rules and how they stand.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Rule>,
    with_builtin: bool,
    standing: BTreeMap<String, Standing>,
}

impl Engine {
    /// With some rules, and the built-in ones, too.
    pub fn new(rules: Vec<Rule>, with_builtin: bool) -> Engine {
        Engine { rules, with_builtin, standing: BTreeMap::new() }
    }

    /// Looks at new figures, and returns what has changed.
    pub fn look(&mut self, delta: &Delta<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let builtin = if self.with_builtin { builtin(delta) } else { Vec::new() };
        for rule in self.rules.iter().chain(&builtin) {
            let standing = self.standing.entry(rule.name.clone()).or_default();
            changes.extend(step(rule, standing, rule.figure(delta), delta.latest().time_ms));
        }
        changes
    }

    /// The rules in force: name, figure, since when (Unix time, milliseconds).
    pub fn in_force(&self) -> impl Iterator<Item = (&str, f64, u64)> {
        let all = self.standing.iter().filter(|(_, standing)| standing.in_force);
        all.map(|(name, standing)| (name.as_str(), standing.figure, standing.begun_ms))
    }
}

fn step(rule: &Rule, standing: &mut Standing, figure: Option<f64>, now_ms: u64) -> Option<Change> {
    // What is not known speaks for nothing. A rule in force whose server is gone stays in force.
    let Some(figure) = figure else {
        standing.since_ms = None;
        return None;
    };
    standing.figure = figure;
    let speaks = if standing.in_force { rule.is_back(figure) } else { rule.is_out(figure) };
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
    fn changes(rule: &Rule, figures: &[Option<f64>]) -> Vec<(usize, bool)> {
        let mut standing = Standing::default();
        let step = |(second, figure): (usize, &Option<f64>)| {
            step(rule, &mut standing, *figure, second as u64 * 1_000).map(|change| (second, change.in_force))
        };
        figures.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn a_rule_needs_its_time_and_does_not_flap() {
        let rule = |above, below, clear| Rule {
            name: "r".into(),
            metric: "m".into(),
            of: None,
            above,
            below,
            clear,
            for_ms: 2_000,
        };
        let above = rule(Some(10.0), None, Some(5.0));
        let some = |figures: &[f64]| figures.iter().map(|&figure| Some(figure)).collect::<Vec<_>>();
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
        let gaps = [Some(11.0), Some(11.0), None, Some(11.0), Some(11.0), Some(11.0), None, None, None];
        assert_eq!(changes(&above, &gaps), [(5, true)]);
    }
}
