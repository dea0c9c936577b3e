//! Charts as SVG: lines over linear or logarithmic axes, and bars. No script, no outside file.

use std::fmt::Write;

/// Colours that can be told apart, also by most who see few colours (Okabe and Ito).
pub(crate) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933"];

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 15.0;
const TOP: f64 = 15.0;
const BOTTOM: f64 = 45.0;

/// Points of a line that are marked at most.
const MARKED_MAX: usize = 8;

/// A line of a chart.
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: String,
    /// Its points; x rises.
    pub(crate) points: Vec<(f64, f64)>,
}

/// How a value is laid on an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By powers of ten.
    Log,
    /// Quantiles: by the number of nines.
    Nines,
}

/// What the axes say.
pub(crate) struct Axes<'a> {
    /// Below.
    pub(crate) x: &'a str,
    /// On the left.
    pub(crate) y: &'a str,
    /// How x is laid out.
    pub(crate) x_scale: Scale,
    /// How y is laid out.
    pub(crate) y_scale: Scale,
}

/// Text that may stand in XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as a person writes it.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e9 => format!("{:.1}G", value / 1e9),
        v if v >= 1e6 => format!("{:.1}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.max(1e-3).log10(),
            Scale::Nines => -(1.0 - value).max(1e-5).log10(),
        }
    }

    /// (low, high) as placed, and the marks between.
    fn range(self, values: &[f64]) -> (f64, f64, Vec<f64>) {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self {
            Scale::Linear => {
                let high = if high > 0.0 { high * 1.05 } else { 1.0 };
                let step = round_step(high / 5.0);
                let marks = (0..=5).map(|n| f64::from(n) * step).filter(|mark| *mark <= high).collect();
                (0.0, high, marks)
            }
            Scale::Log => {
                let low = self.place(low).floor();
                let high = self.place(high).ceil().max(low + 1.0);
                let marks = (low as i32..=high as i32).map(|power| 10_f64.powi(power)).collect();
                (low, high, marks)
            }
            Scale::Nines => (0.0, 5.0, vec![0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999]),
        }
    }
}

fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= step).unwrap_or(10.0);
    digit * power
}

/// Where values lie in the picture.
struct Plane<'a> {
    axes: &'a Axes<'a>,
    /// Lowest and highest place on each axis, and where its marks are.
    x: (f64, f64, Vec<f64>),
    y: (f64, f64, Vec<f64>),
}

impl<'a> Plane<'a> {
    fn of(series: &[Series], axes: &'a Axes<'a>) -> Option<Plane<'a>> {
        let points = || series.iter().flat_map(|series| series.points.iter());
        let xs: Vec<f64> = points().map(|point| point.0).collect();
        let ys: Vec<f64> = points().map(|point| point.1).collect();
        (!xs.is_empty()).then(|| Plane { axes, x: axes.x_scale.range(&xs), y: axes.y_scale.range(&ys) })
    }

    fn x(&self, value: f64) -> f64 {
        let part = ((self.axes.x_scale.place(value) - self.x.0) / (self.x.1 - self.x.0)).clamp(0.0, 1.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let part = ((self.axes.y_scale.place(value) - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    /// The lines behind, with what they stand for.
    fn grid(&self, out: &mut String) {
        for &mark in &self.y.2 {
            let at = self.y(mark);
            let _ = write!(
                out,
                "<line class='grid' x1='{LEFT}' x2='{}' y1='{at:.1}' y2='{at:.1}'/><text x='{}' y='{:.1}' \
                 text-anchor='end'>{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                short(mark)
            );
        }
        for &mark in &self.x.2 {
            let at = self.x(mark);
            let text = if self.axes.x_scale == Scale::Nines {
                format!("{}%", (mark * 1e5).round() / 1e3)
            } else {
                short(mark)
            };
            let _ = write!(
                out,
                "<line class='grid' x1='{at:.1}' x2='{at:.1}' y1='{TOP}' y2='{}'/><text x='{at:.1}' y='{}' \
                 text-anchor='middle'>{text}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0
            );
        }
        let _ = write!(
            out,
            "<text x='{:.0}' y='{:.0}' text-anchor='middle'>{}</text><text transform='translate(14 {:.0}) \
             rotate(-90)' text-anchor='middle'>{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 8.0,
            escape(self.axes.x),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escape(self.axes.y)
        );
    }

    /// One line, and its name beneath the picture.
    fn line(&self, index: usize, series: &Series, out: &mut String) {
        let colour = COLOURS[index % COLOURS.len()];
        // A colour that comes again is told apart by its dashes, in the legend too.
        let dashes = match index / COLOURS.len() {
            0 => String::new(),
            turn => format!(" stroke-dasharray='{} 3'", 12 / turn.min(6)),
        };
        let points: Vec<String> =
            series.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y))).collect();
        let _ = write!(
            out,
            "<polyline fill='none' stroke='{colour}' stroke-width='2'{dashes} points='{}'/>",
            points.join(" ")
        );
        // Few points are marked: one by itself makes no line.
        if series.points.len() <= MARKED_MAX {
            for &(px, py) in &series.points {
                let _ = write!(
                    out,
                    "<circle cx='{:.1}' cy='{:.1}' r='3' fill='{colour}'/>",
                    self.x(px),
                    self.y(py)
                );
            }
        }
        let at = HEIGHT + 18.0 * index as f64 + 6.0;
        let _ = write!(
            out,
            "<line x1='{LEFT}' x2='{}' y1='{:.0}' y2='{:.0}' stroke='{colour}' stroke-width='3'{dashes}/>\
             <text x='{}' y='{at:.0}'>{}</text>",
            LEFT + 24.0,
            at - 4.0,
            at - 4.0,
            LEFT + 30.0,
            escape(&series.name)
        );
    }
}

/// A chart of lines; empty when there are no points.
pub(crate) fn lines(series: &[Series], axes: &Axes<'_>) -> String {
    let Some(plane) = Plane::of(series, axes) else { return String::new() };
    let legend = HEIGHT + 18.0 * series.len() as f64;
    // Writing to a String cannot fail.
    let mut out = format!(
        "<svg viewBox='0 0 {WIDTH} {legend}' role='img' aria-label='{} by {}'>",
        escape(axes.y),
        escape(axes.x)
    );
    plane.grid(&mut out);
    for (index, series) in series.iter().enumerate() {
        plane.line(index, series, &mut out);
    }
    out.push_str("</svg>");
    out
}

/// Horizontal bars.
pub(crate) fn bars(rows: &[(String, f64)], unit: &str) -> String {
    let most = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let height = rows.len() as f64 * 26.0 + 8.0;
    let mut out = format!("<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{}'>", escape(unit));
    for (index, (name, value)) in rows.iter().enumerate() {
        let top = index as f64 * 26.0 + 4.0;
        let width = (value / most * (WIDTH - 360.0)).max(1.0);
        let _ = write!(
            out,
            "<text x='215' y='{:.0}' text-anchor='end'>{}</text><rect x='220' y='{top:.0}' width='{width:.1}' \
             height='18' fill='{}'/><text x='{:.0}' y='{:.0}'>{} {}</text>",
            top + 14.0,
            escape(name),
            COLOURS[index % COLOURS.len()],
            226.0 + width,
            top + 14.0,
            short(*value),
            escape(unit)
        );
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_inside_the_frame_and_names_are_escaped() {
        let series =
            [Series { name: "a<b".into(), points: vec![(0.0, 1.0), (0.5, 100.0), (0.999_999, 1e6)] }];
        let axes = Axes { x: "quantile", y: "ms", x_scale: Scale::Nines, y_scale: Scale::Log };
        let svg = lines(&series, &axes);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        let start = svg.find(" points='").unwrap() + 9;
        let points = &svg[start..start + svg[start..].find('\'').unwrap()];
        assert_eq!(points.split(' ').count(), 3);
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
        assert_eq!(svg.matches("<circle").count(), 3, "few points are marked");
        assert_eq!(lines(&[], &axes), "");
        let many: Vec<Series> =
            (0..20).map(|n| Series { name: n.to_string(), points: vec![(0.0, 1.0); 9] }).collect();
        let svg = lines(&many, &axes);
        let stroke = |line: &str| {
            line.split(" points=").next().and_then(|line| line.split("stroke=").nth(1)).map(str::to_owned)
        };
        let styles: std::collections::BTreeSet<_> = svg.split("<polyline").skip(1).map(stroke).collect();
        assert_eq!(styles.len(), 20, "every line can be told apart");
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = bars(&[("one".into(), 10.0), ("two".into(), 5.0)], "B");
        assert!(svg.contains("width='360.0'") && svg.contains("width='180.0'"), "{svg}");
        assert_eq!(bars(&[("none".into(), 0.0)], "B"), "");
    }
}
