//! What clients in browsers read at `https://DOMAIN/.well-known/host-meta` (XEP-0156): where WebSocket and BOSH are. It is for
//! web servers in front, which the operator names with `--websocket` and `--bosh`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::doctor::Finding;

/// How long the web server may take.
const PATIENCE: Duration = Duration::from_secs(10);

const WEBSOCKET: &str = "urn:xmpp:alt-connections:websocket";
const BOSH: &str = "urn:xmpp:alt-connections:xbosh";

/// The addresses that are announced.
pub(super) struct HostMeta<'a> {
    pub(super) websocket: Option<&'a str>,
    pub(super) bosh: Option<&'a str>,
}

impl HostMeta<'_> {
    fn links(&self) -> Vec<(&'static str, &str)> {
        [(WEBSOCKET, self.websocket), (BOSH, self.bosh)]
            .into_iter()
            .filter_map(|(rel, url)| Some((rel, url?)))
            .collect()
    }

    /// The XML form; `None` when nothing is announced.
    pub(super) fn xml(&self) -> Option<String> {
        let links = self.links();
        if links.is_empty() {
            return None;
        }
        let mut text = String::from("<?xml version='1.0' encoding='utf-8'?>\n");
        text += "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n";
        for (rel, url) in links {
            let url = url.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;");
            text += &format!("  <Link rel='{rel}' href='{url}'/>\n");
        }
        Some(text + "</XRD>\n")
    }

    /// The JSON form.
    pub(super) fn json(&self) -> Option<Value> {
        let links = self.links();
        let list: Vec<Value> = links.iter().map(|(rel, url)| json!({ "rel": rel, "href": url })).collect();
        (!list.is_empty()).then(|| json!({ "links": list }))
    }

    /// Both for people.
    pub(super) fn text(&self, domain: &str) -> String {
        let (Some(xml), Some(json)) = (self.xml(), self.json()) else {
            return "; no host-meta: it is for WebSocket and BOSH; name them with --websocket and --bosh\n"
                .to_owned();
        };
        format!(
            "\n; https://{domain}/.well-known/host-meta (with Access-Control-Allow-Origin: *)\n{xml}\n\
             ; https://{domain}/.well-known/host-meta.json\n{json}\n"
        )
    }

    /// Fetches what is announced, and compares.
    pub(super) fn check(&self, domain: &str) -> Vec<Finding> {
        if self.links().is_empty() {
            return Vec::new();
        }
        let url = format!("https://{domain}/.well-known/host-meta");
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let fetched = agent.get(&url).call().and_then(|mut answer| {
            let open = answer.headers().get("access-control-allow-origin").is_some();
            Ok((answer.body_mut().read_to_string()?, open))
        });
        match fetched {
            Ok((text, open)) => self.judge(&url, &text, open),
            Err(error) => {
                let command = format!("curl -sS {url}");
                vec![Finding::mend("host-meta", format!("{url} cannot be read: {error}"), command)]
            }
        }
    }

    fn judge(&self, url: &str, text: &str, is_open: bool) -> Vec<Finding> {
        let check = "host-meta";
        let mut findings: Vec<Finding> = Vec::new();
        for (rel, wanted) in self.links() {
            findings.push(if text.contains(rel) && text.contains(wanted) {
                Finding::good(check, format!("{url} names {wanted}"))
            } else {
                Finding::mend(
                    check,
                    format!("{url} does not name {wanted} ({rel})"),
                    "whimbrelctl dns prints what it should be",
                )
            });
        }
        if !is_open {
            let text = format!(
                "{url} is sent without Access-Control-Allow-Origin: pages of other origins cannot read it"
            );
            findings.push(Finding::mend(check, text, "add the header Access-Control-Allow-Origin: *"));
        }
        findings
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_looked_for() {
        let web = HostMeta {
            websocket: Some("wss://chat.example/ws"),
            bosh: Some("https://chat.example/bosh?a=b"),
        };
        let xml = web.xml().unwrap();
        assert!(
            xml.contains("<Link rel='urn:xmpp:alt-connections:websocket' href='wss://chat.example/ws'/>"),
            "{xml}"
        );
        let levels = |web: &HostMeta<'_>, text: &str, open| -> Vec<Level> {
            web.judge("u", text, open).into_iter().map(|finding| finding.level).collect()
        };
        let one = HostMeta { websocket: Some("wss://chat.example/ws"), bosh: None };
        assert_eq!(levels(&one, &xml, true), [Level::Good]);
        assert_eq!(levels(&one, &xml, false), [Level::Good, Level::Mend]);
        assert_eq!(levels(&one, "<XRD/>", true), [Level::Mend]);
        let none = HostMeta { websocket: None, bosh: None };
        assert!(none.xml().is_none() && none.json().is_none() && none.check("x").is_empty());
        assert!(none.text("x").contains("--websocket"));
    }
}
