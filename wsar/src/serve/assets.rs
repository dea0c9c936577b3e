//! The page's files. All of them are in the program: the page needs no other server.

/// A file.
pub struct Asset {
    /// Its path.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

macro_rules! asset {
    ($path:literal, $content_type:expr, $file:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../web/", $file)),
        }
    };
}

/// The page.
pub const PAGE: Asset = asset!("/", HTML, "index.html");

/// The form that asks for the token.
pub const LOGIN: Asset = asset!("/login", HTML, "login.html");

/// What anybody may have, logged in or not: the looks of the login form.
pub const OPEN: &[Asset] =
    &[asset!("/style.css", CSS, "style.css"), asset!("/icon.svg", "image/svg+xml", "icon.svg")];

/// Everything else.
pub const CLOSED: &[Asset] = &[
    asset!("/uplot.js", JS, "vendor/uPlot.min.js"),
    asset!("/uplot.css", CSS, "vendor/uPlot.min.css"),
    asset!("/main.js", JS, "main.js"),
    asset!("/source.js", JS, "source.js"),
    asset!("/view.js", JS, "view.js"),
    asset!("/charts.js", JS, "charts.js"),
    asset!("/figures.js", JS, "figures.js"),
    asset!("/format.js", JS, "format.js"),
    asset!("/events.js", JS, "events.js"),
    asset!("/incident.js", JS, "incident.js"),
    asset!("/tooltip.js", JS, "tooltip.js"),
    asset!("/tiles.js", JS, "tiles.js"),
    asset!("/queues.js", JS, "queues.js"),
    asset!("/workers.js", JS, "workers.js"),
    asset!("/status.js", JS, "status.js"),
];
