//! `user add`, `del`, `list`, `passwd`, `config`.

use std::io::BufRead;
use std::num::NonZeroU32;
use std::path::Path;

use serde_json::json;
use whimbrel_storage::credentials::{Credentials, PASSWORD_BYTES_MAX};
use whimbrel_storage::jid::JidRef;
use zeroize::Zeroizing;

use crate::accounts::Accounts;
use crate::cli::{Create, Iterations, PasswordArgs};
use crate::problem::Problem;
use crate::prompt;
use crate::report::Report;

/// A bare address: localpart and domain, normalised.
pub(crate) fn bare(jid: &str) -> Result<(String, String), Problem> {
    let bad = |text: String| Problem::of_kind("bad-address", format!("`{jid}` {text}"));
    let parsed = JidRef::parse(jid).map_err(|error| bad(format!("is not an address: {error}")))?;
    if parsed.resource().is_some() {
        return Err(bad("has a resource; an account is named without it".into()));
    }
    match parsed.local() {
        Some(local) => Ok((local.to_owned(), parsed.domain().to_owned())),
        None => Err(bad("names no account; write NAME@DOMAIN".into())),
    }
}

/// Refuses an address of another domain.
pub(crate) fn same_domain(accounts: &Accounts, domain: &str) -> Result<(), Problem> {
    if accounts.domain() == domain {
        return Ok(());
    }
    let text = format!("the accounts here are of {}, not of {domain}", accounts.domain());
    Err(Problem::of_kind("foreign-domain", text))
}

pub(crate) fn add(
    data: &Path,
    jid: &str,
    password: &PasswordArgs,
    (iterations, create): (Iterations, Create),
    report: &Report,
) -> Result<(), Problem> {
    let (local, domain) = bare(jid)?;
    let mut accounts = Accounts::open(data, create.create.then_some(&domain))?;
    same_domain(&accounts, &domain)?;
    let asked = (password, format!("{local}@{domain}"));
    let (credentials, generated) = credentials(&asked, rounds(iterations, &accounts))?;
    if accounts.add(vec![(local.clone(), credentials)])? != [true] {
        let text =
            format!("the account {local}@{domain} exists already; use `user passwd` to change its password");
        return Err(Problem::of_kind("exists", text));
    }
    show(&local, &domain, generated, report);
    Ok(())
}

pub(crate) fn passwd(
    data: &Path,
    jid: &str,
    password: &PasswordArgs,
    iterations: Iterations,
    report: &Report,
) -> Result<(), Problem> {
    let (local, domain) = bare(jid)?;
    let mut accounts = Accounts::open(data, None)?;
    same_domain(&accounts, &domain)?;
    let asked = (password, format!("{local}@{domain}"));
    let (credentials, generated) = credentials(&asked, rounds(iterations, &accounts))?;
    accounts.passwd(&local, credentials)?;
    show(&local, &domain, generated, report);
    Ok(())
}

pub(crate) fn del(data: &Path, jid: &str, report: &Report) -> Result<(), Problem> {
    let (local, domain) = bare(jid)?;
    let mut accounts = Accounts::open(data, None)?;
    same_domain(&accounts, &domain)?;
    let kicked = accounts.del(&local)?;
    report.result(&json!({ "jid": format!("{local}@{domain}"), "kicked": kicked }), String::new);
    Ok(())
}

/// Lists all accounts as they come, so that a million of them need no memory.
pub(crate) fn list(data: &Path, report: &Report) -> Result<(), Problem> {
    let mut accounts = Accounts::open(data, None)?;
    let mut after: Option<String> = None;
    let mut separator = "";
    if report.is_json() {
        report.line("{\"accounts\":[");
    }
    loop {
        let page = accounts.page(after.as_deref())?;
        let Some(last) = page.last() else { break };
        for local in &page {
            let jid = format!("{local}@{}", accounts.domain());
            if report.is_json() {
                report.line(&format!("{separator}{}", json!(jid)));
                separator = ",";
            } else {
                report.line(&jid);
            }
        }
        after = Some(last.clone());
    }
    if report.is_json() {
        report.line("]}");
    } else if after.is_none() {
        report.nothing(&format!("{} has no accounts yet", accounts.domain()));
    }
    Ok(())
}

/// What an account says of itself; quiet when it is set.
pub(crate) fn config(
    data: &Path,
    jid: &str,
    set: &[(String, String)],
    report: &Report,
) -> Result<(), Problem> {
    let (local, domain) = bare(jid)?;
    let mut accounts = Accounts::open(data, None)?;
    same_domain(&accounts, &domain)?;
    let settings = accounts.config(&local, set)?;
    report.result(&json!({ "settings": settings }), || match set.is_empty() {
        true => settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        false => String::new(),
    });
    Ok(())
}

/// PBKDF2 rounds: as asked, else as the server does it.
pub(crate) fn rounds(iterations: Iterations, accounts: &Accounts) -> NonZeroU32 {
    iterations.scram_iterations.unwrap_or_else(|| accounts.iterations())
}

/// The keys of an account, and the password when it was made here.
fn credentials(
    (from, jid): &(&PasswordArgs, String),
    rounds: NonZeroU32,
) -> Result<(Credentials, Option<Zeroizing<String>>), Problem> {
    let failed = |error: &dyn std::fmt::Display| Problem::new(error.to_string());
    let password = match &from.password {
        Some(password) => Zeroizing::new(password.clone()),
        None if from.generate => Credentials::random_key().map_err(|error| failed(&error))?,
        None if from.is_asked_for() => prompt::new_password(jid)?,
        None => first_line(std::io::stdin().lock())?,
    };
    let keys = Credentials::derive(&password, rounds).map_err(|error| failed(&error))?;
    Ok((keys, from.generate.then_some(password)))
}

/// The first line of a source, without its end.
fn first_line(source: impl BufRead) -> Result<Zeroizing<String>, Problem> {
    let mut line = Zeroizing::new(String::with_capacity(PASSWORD_BYTES_MAX + 3));
    // Two bytes for the end of the line, one to see that there is more.
    source
        .take(PASSWORD_BYTES_MAX as u64 + 3)
        .read_line(&mut line)
        .map_err(|error| Problem::new(format!("cannot read the password from standard input: {error}")))?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

/// Quiet, unless a password was made.
fn show(local: &str, domain: &str, generated: Option<Zeroizing<String>>, report: &Report) {
    let mut value = json!({ "jid": format!("{local}@{domain}") });
    if let Some(password) = &generated {
        value["password"] = json!(password.as_str());
    }
    report.result(&value, || generated.map(|password| password.to_string()).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_by_a_bare_address() {
        assert_eq!(bare("Alice@Example.ORG").unwrap(), ("alice".into(), "example.org".into()));
        for (jid, text) in [
            ("example.org", "names no account"),
            ("a@b/c", "has a resource"),
            ("a b@c", "not an address"),
            ("", "not an address"),
        ] {
            let error = bare(jid).expect_err(jid).to_string();
            assert!(error.contains(text), "{jid}: {error}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        for text in ["secret\nmore", "secret\r\n", "secret"] {
            assert_eq!(first_line(text.as_bytes()).unwrap().as_str(), "secret", "{text:?}");
        }
    }
}
