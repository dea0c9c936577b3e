//! `dns`: the records by which clients find the server, printed for the zone, and compared with what is there.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`query`] | questions to a DNS server (RFC 1035) |
//! | [`host_meta`] | what web clients read over HTTPS (XEP-0156) |

mod host_meta;
mod query;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::DnsArgs;
use crate::doctor::{Finding, Level, Patient, patient, show};
use crate::problem::Problem;
use crate::report::Report;
use host_meta::HostMeta;
use query::{Resolver, Srv};

/// Seconds for which others may remember a record: short enough for a move, long enough to cost nothing.
const TTL_SECONDS: u32 = 3600;

/// A service and the record that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// Like `_xmpp-client._tcp.example.org`.
    name: String,
    srv: Srv,
    /// What is said about it in the zone.
    why: &'static str,
}

/// Prints the records, and with `--check` compares; exit code 1 when something must be mended.
pub(crate) fn run(data: &Path, args: &DnsArgs, report: &Report) -> Result<ExitCode, Problem> {
    let patient = patient(data, args.config.as_deref())?;
    let domain = ascii(args.domain.as_deref().or(patient.domain.as_deref()).unwrap_or("localhost"))?;
    let host = match &args.host {
        Some(host) => ascii(host)?,
        None => domain.clone(),
    };
    let wanted = wanted(&domain, &host, &patient);
    let web = HostMeta { websocket: args.websocket.as_deref(), bosh: args.bosh.as_deref() };
    let findings = if args.check { check(&wanted, &host, &domain, &web, args.resolver)? } else { Vec::new() };
    let mend = findings.iter().filter(|finding| finding.level == Level::Mend).count();
    let records: Vec<String> = wanted.iter().map(line).collect();
    let value = json!({
        "domain": domain,
        "records": records,
        "host_meta": web.xml(),
        "host_meta_json": web.json(),
        "mend": mend,
        "findings": findings,
    });
    report.result(&value, || {
        if args.check {
            return findings.iter().map(show).collect();
        }
        zone(&domain, &host, &wanted, &patient) + &web.text(&domain)
    });
    Ok(if mend == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A name as it is written in the DNS (RFC 5891).
fn ascii(name: &str) -> Result<String, Problem> {
    let bad = || Problem::of_kind("bad-address", format!("`{name}` is no domain name"));
    let ascii = idna::domain_to_ascii(name.trim_end_matches('.')).map_err(|_| bad())?;
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
    if !ascii.bytes().all(is_letter) {
        return Err(bad());
    }
    if ascii.is_empty() || ascii.parse::<IpAddr>().is_ok() {
        return Err(Problem::of_kind(
            "bad-address",
            format!("`{name}` has no records: give the server a domain name (`domain` in its configuration)"),
        ));
    }
    Ok(ascii.to_ascii_lowercase())
}

/// The records of a server that listens like this one.
fn wanted(domain: &str, host: &str, patient: &Patient) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let services = [
        // Direct TLS first: one round trip less, and nothing in the clear.
        ("_xmpps-client", &patient.listen_tls, 5, "clients, direct TLS (XEP-0368)"),
        ("_xmpp-client", &patient.listen, 10, "clients, STARTTLS (RFC 6120 §3.2.1)"),
    ];
    for (service, addresses, priority, why) in services {
        let mut ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let srv = Srv { priority, weight: 0, port, target: host.to_owned() };
            wanted.push(Wanted { name: format!("{service}._tcp.{domain}"), srv, why });
        }
    }
    // RFC 2782: a target of "." says that there is no such service.
    for service in ["_xmpp-server", "_xmpps-server"] {
        let srv = Srv { priority: 0, weight: 0, port: 0, target: String::new() };
        wanted.push(Wanted {
            name: format!("{service}._tcp.{domain}"),
            srv,
            why: "this server talks to no other servers",
        });
    }
    wanted
}

fn line(wanted: &Wanted) -> String {
    let Srv { priority, weight, port, target } = &wanted.srv;
    format!("{}. {TTL_SECONDS} IN SRV {priority} {weight} {port} {target}.", wanted.name)
}

/// Everything for people: what to put into the zone, and why.
fn zone(domain: &str, host: &str, wanted: &[Wanted], patient: &Patient) -> String {
    let mut text = format!("; for the zone of {domain}\n");
    let mut why = "";
    for record in wanted {
        if record.why != why {
            why = record.why;
            text += &format!("; {why}\n");
        }
        text += &format!("{}\n", line(record));
    }
    let listening: Vec<IpAddr> =
        patient.listen.iter().chain(&patient.listen_tls).map(|address| address.ip().to_canonical()).collect();
    let mut public: Vec<IpAddr> =
        listening.iter().copied().filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect();
    public.sort();
    public.dedup();
    text += "; the machine\n";
    if public.is_empty() {
        text += &format!("; {host}. {TTL_SECONDS} IN A and AAAA: the addresses of this machine\n");
    }
    for address in public {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        text += &format!("{host}. {TTL_SECONDS} IN {kind} {address}\n");
    }
    if listening.iter().all(IpAddr::is_loopback) {
        text += "; it listens on loopback addresses only: set `listen` and `listen_tls`, or nobody outside gets there\n";
    }
    text
}

/// Compares with what the DNS says.
fn check(
    wanted: &[Wanted],
    host: &str,
    domain: &str,
    web: &HostMeta<'_>,
    resolver: Option<SocketAddr>,
) -> Result<Vec<Finding>, Problem> {
    let resolver = match resolver {
        Some(address) => Resolver::at(address),
        None => Resolver::of_system()?,
    };
    let mut findings = Vec::new();
    let mut names: Vec<&str> = wanted.iter().map(|record| record.name.as_str()).collect();
    names.dedup();
    for name in names {
        let here: Vec<&Wanted> = wanted.iter().filter(|record| record.name == name).collect();
        findings.push(compare(name, &here, &resolver.srv(name)?));
    }
    let addresses = resolver.addresses(host)?;
    findings.push(if addresses.is_empty() {
        let text = format!("{host} has no address");
        Finding::mend("address", text, format!("put into the zone: {host}. {TTL_SECONDS} IN A ADDRESS"))
    } else {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Finding::good("address", format!("{host} is {}", list.join(", ")))
    });
    findings.extend(web.check(domain));
    Ok(findings)
}

fn compare(name: &str, wanted: &[&Wanted], found: &[Srv]) -> Finding {
    let is_there = |record: &&&Wanted| found.iter().any(|srv| leads_to(srv, &record.srv));
    let list = |all: &[Srv]| {
        let list: Vec<String> = all.iter().map(|srv| format!("{}:{}", srv.target, srv.port)).collect();
        list.join(", ")
    };
    let none = wanted.iter().all(|record| record.srv.target.is_empty());
    if none && found.is_empty() {
        let text = format!("{name} is not there: other servers try the domain itself, and give up later");
        return Finding::note("SRV", text).with_command(put(wanted));
    }
    if let Some(missing) = wanted.iter().find(|record| !is_there(record)) {
        let what = match found {
            [] => "is not there".to_owned(),
            _ => {
                format!("is {}, and {}:{} is not among it", list(found), missing.srv.target, missing.srv.port)
            }
        };
        return Finding::mend("SRV", format!("{name} {what}"), put(wanted));
    }
    let is_strange = |srv: &&Srv| !wanted.iter().any(|record| leads_to(srv, &record.srv));
    let strange: Vec<Srv> = found.iter().filter(is_strange).cloned().collect();
    if !strange.is_empty() {
        let text = format!(
            "{name} also leads to {}, which is not this server as far as is known here",
            list(&strange)
        );
        return Finding::note("SRV", text);
    }
    Finding::good("SRV", format!("{name} leads here"))
}

/// Whether a record leads where another one should. Where there is no service, the port says nothing.
fn leads_to(found: &Srv, wanted: &Srv) -> bool {
    found.target.eq_ignore_ascii_case(&wanted.target)
        && (wanted.target.is_empty() || found.port == wanted.port)
}

fn put(wanted: &[&Wanted]) -> String {
    let lines: Vec<String> = wanted.iter().map(|record| line(record)).collect();
    format!("put into the zone: {}", lines.join("; "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn patient(listen: &[&str], listen_tls: &[&str]) -> Patient {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Patient { listen: parse(listen), listen_tls: parse(listen_tls), ..Patient::default() }
    }

    #[test]
    fn each_port_has_a_record_and_servers_are_told_that_there_is_none() {
        let patient = patient(&["192.0.2.7:5222", "[2001:db8::7]:5222"], &["192.0.2.7:443"]);
        let wanted = wanted("example.org", "chat.example.org", &patient);
        let lines: Vec<String> = wanted.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "_xmpps-client._tcp.example.org. 3600 IN SRV 5 0 443 chat.example.org.",
                "_xmpp-client._tcp.example.org. 3600 IN SRV 10 0 5222 chat.example.org.",
                "_xmpp-server._tcp.example.org. 3600 IN SRV 0 0 0 .",
                "_xmpps-server._tcp.example.org. 3600 IN SRV 0 0 0 .",
            ]
        );
        let zone = zone("example.org", "chat.example.org", &wanted, &patient);
        for line in
            ["chat.example.org. 3600 IN A 192.0.2.7\n", "chat.example.org. 3600 IN AAAA 2001:db8::7\n"]
        {
            assert!(zone.contains(line), "{zone}");
        }
        let inside = super::tests::patient(&["127.0.0.1:5222"], &[]);
        assert!(super::zone("a.b", "a.b", &wanted, &inside).contains("loopback addresses only"));
    }

    #[test]
    fn what_is_missing_or_leads_elsewhere_is_found() {
        let srv = |port, target: &str| Srv { priority: 0, weight: 0, port, target: target.to_owned() };
        let wanted = Wanted { name: "n".into(), srv: srv(5222, "chat.example.org"), why: "" };
        let table = [
            (vec![], Level::Mend, "is not there"),
            (vec![srv(5222, "old.example.org")], Level::Mend, "old.example.org:5222"),
            (vec![srv(5223, "chat.example.org")], Level::Mend, "chat.example.org:5222 is not among it"),
            (vec![srv(5222, "Chat.Example.org")], Level::Good, "leads here"),
            (
                vec![srv(5222, "chat.example.org"), srv(5222, "old.example.org")],
                Level::Note,
                "old.example.org",
            ),
        ];
        for (found, level, text) in table {
            let finding = compare("n", &[&wanted], &found);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(text), "{finding:?}");
        }
        let none = Wanted { name: "n".into(), srv: srv(0, ""), why: "" };
        assert_eq!(compare("n", &[&none], &[]).level, Level::Note);
        assert_eq!(compare("n", &[&none], &[srv(0, "")]).level, Level::Good);
        assert_eq!(compare("n", &[&none], &[srv(5269, "x")]).level, Level::Mend);
    }

    #[test]
    fn names_are_written_as_the_dns_has_them() {
        assert_eq!(ascii("Bücher.example.").unwrap(), "xn--bcher-kva.example");
        for bad in ["", "192.0.2.1", "a b"] {
            ascii(bad).unwrap_err();
        }
    }
}
