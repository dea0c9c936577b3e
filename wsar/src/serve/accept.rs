//! What an `Accept` header asks for (RFC 9110 §12.4.2, §12.5.1).

use super::openmetrics::Format;

/// The formats, the one that is given when both are wanted as much first; each with type, subtype and version.
const FORMATS: [(Format, &str, &str, &str); 2] = [
    (Format::OpenMetrics, "application", "openmetrics-text", "1.0.0"),
    (Format::Prometheus, "text", "plain", "0.0.4"),
];

/// A media range with its weight in thousandths.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    weight: u32,
}

/// The format that is wanted most of those that are acceptable. `None`: neither is. Without a header, and to one that
/// cannot be read, both are the same.
pub fn format<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Format> {
    let ranges: Vec<Range<'a>> = headers.flat_map(|line| line.split(',')).filter_map(Range::read).collect();
    if ranges.is_empty() {
        return Some(Format::OpenMetrics);
    }
    let mut best = None;
    for (format, kind, subtype, version) in FORMATS {
        let weight = weight(&ranges, kind, subtype, version);
        if weight > best.map_or(0, |(_, most)| most) {
            best = Some((format, weight));
        }
    }
    best.map(|(format, _)| format)
}

/// What the most precise of the ranges that a type lies in says; 0 when it lies in none.
fn weight(ranges: &[Range<'_>], kind: &str, subtype: &str, version: &str) -> u32 {
    let precision = |range: &Range<'_>| {
        let fits = |wanted: &str, ours: &str| wanted == "*" || wanted.eq_ignore_ascii_case(ours);
        let inside = fits(range.kind, kind) && fits(range.subtype, subtype);
        let inside = inside && range.version.is_none_or(|wanted| wanted == version);
        inside.then_some((range.kind != "*", range.subtype != "*", range.version.is_some()))
    };
    let inside = ranges.iter().filter_map(|range| Some((precision(range)?, range.weight)));
    inside.max().map_or(0, |(_, weight)| weight)
}

impl<'a> Range<'a> {
    /// `text/plain;version=0.0.4;q=0.5`. `None`: no media range, or a weight that is none.
    fn read(text: &'a str) -> Option<Range<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Range { kind, subtype, version: None, weight: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => {
                    range.weight = thousandths(value)?;
                    // What follows a weight belongs to it.
                    break;
                }
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value),
                // A charset, a way of escaping: whoever asks takes ours.
                _ => {}
            }
        }
        Some(range)
    }
}

/// `0.5` is 500: at most 1, and at most three digits.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_is_wanted_most_and_not_what_is_refused() {
        const NEW: Option<Format> = Some(Format::OpenMetrics);
        const OLD: Option<Format> = Some(Format::Prometheus);
        let table: [(&[&str], Option<Format>); 22] = [
            (&[], NEW),
            (&[""], NEW),
            (&["*/*"], NEW),
            (&["text/plain"], OLD),
            (&["TEXT/Plain; charset=utf-8"], OLD),
            (&["text/*"], OLD),
            (&["application/openmetrics-text;q=0,text/plain"], OLD),
            (&["text/plain;q=0.9,application/openmetrics-text;q=0.1"], OLD),
            (&["text/plain;q=0.1,application/openmetrics-text;q=0.9"], NEW),
            (&["application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"], NEW),
            // A version that we do not speak.
            (&["application/openmetrics-text;version=2.0.0,text/plain;q=0.5"], OLD),
            (&["text/plain", "application/openmetrics-text;q=0.5"], OLD),
            // Prometheus, as it comes.
            (
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1"],
                NEW,
            ),
            // The more precise range counts, wherever it stands.
            (&["*/*, application/openmetrics-text;q=0.2"], OLD),
            (&["application/openmetrics-text;q=0, */*"], OLD),
            (&["*/*;q=0, text/plain;q=0.001"], OLD),
            (&["*/*;q=0"], None),
            (&["application/openmetrics-text;q=0, text/plain;q=0.000"], None),
            (&["text/html"], None),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], NEW),
            // A weight that is none takes its range with it.
            (&["application/openmetrics-text;q=1.5, text/plain;q=0.2"], OLD),
            (&["application/openmetrics-text;q=0.1234, text/plain;q=0.2"], OLD),
        ];
        for (headers, expected) in table {
            assert_eq!(format(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
