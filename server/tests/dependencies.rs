//! docs/dependencies.md says what the manifests say, and the sources use what the manifests ask for.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Dependencies that no source of their crate names, and why they are there.
const NEVER_NAMED: [(&str, &str); 3] = [
    // Its version chooses the tables of idna.
    ("storage", "idna_adapter"),
    // Named by the oracle of server/xml, which the fuzz targets include.
    ("fuzz", "memchr"),
    ("fuzz", "rxml"),
];

/// One crate of ours.
struct Manifest {
    /// Its name without the project's.
    name: String,
    folder: PathBuf,
    /// What it needs to run.
    runs: BTreeSet<String>,
    /// What it needs for tests and benchmarks.
    tests: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(path: &Path) -> toml::Table {
    toml::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in a table of dependencies, those of ours left out.
fn outside(table: Option<&toml::Value>) -> impl Iterator<Item = String> {
    let names = table.and_then(toml::Value::as_table).map(|table| table.keys().cloned().collect::<Vec<_>>());
    names.unwrap_or_default().into_iter().filter(|name| !name.starts_with("whimbrel-"))
}

fn manifest(folder: PathBuf) -> Manifest {
    let table = table(&folder.join("Cargo.toml"));
    let name = table["package"]["name"].as_str().unwrap();
    let mut runs: BTreeSet<String> = outside(table.get("dependencies")).collect();
    runs.extend(outside(table.get("build-dependencies")));
    let systems = table.get("target").and_then(toml::Value::as_table);
    for system in systems.into_iter().flat_map(toml::Table::values) {
        runs.extend(outside(system.get("dependencies")));
    }
    Manifest {
        name: name.trim_start_matches("whimbrel-").to_owned(),
        runs,
        tests: outside(table.get("dev-dependencies")).collect(),
        folder,
    }
}

/// All crates of the workspace, and the fuzz targets.
fn manifests() -> Vec<Manifest> {
    let workspace = table(&root().join("Cargo.toml"));
    let folders = ["members", "exclude"].map(|kind| workspace["workspace"][kind].as_array().unwrap().clone());
    let folders = folders.iter().flatten().map(|folder| root().join(folder.as_str().unwrap()));
    let manifests: Vec<Manifest> = folders.map(manifest).collect();
    assert!(manifests.len() >= 10, "the workspace has lost its crates");
    manifests
}

/// The second column: crates that need it to run, then those that need it for tests only.
fn users(manifests: &[Manifest], dependency: &str) -> String {
    let of = |test: &dyn Fn(&Manifest) -> bool| {
        let names: Vec<&str> = manifests.iter().filter(|ours| test(ours)).map(|ours| &*ours.name).collect();
        names.join(", ")
    };
    let runs = of(&|ours| ours.runs.contains(dependency));
    let tests = of(&|ours| !ours.runs.contains(dependency) && ours.tests.contains(dependency));
    match (runs.is_empty(), tests.is_empty()) {
        (_, true) => runs,
        (true, false) => format!("tests: {tests}"),
        (false, false) => format!("{runs}; tests: {tests}"),
    }
}

#[test]
fn the_table_of_dependencies_is_what_the_manifests_say() {
    let manifests = manifests();
    let names: BTreeSet<&String> =
        manifests.iter().flat_map(|ours| ours.runs.iter().chain(&ours.tests)).collect();
    let expected: BTreeMap<&str, String> =
        names.iter().map(|name| (name.as_str(), users(&manifests, name))).collect();

    let text = read(&root().join("docs/dependencies.md"));
    let mut rows = BTreeMap::new();
    for line in text.lines().skip_while(|line| !line.starts_with("|---")).skip(1) {
        let Some(row) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { break };
        let cells: Vec<&str> = row.splitn(3, " | ").collect();
        assert!(
            cells.len() == 3 && !cells[2].is_empty(),
            "docs/dependencies.md: a row without a reason: {line}"
        );
        for name in cells[0].split(", ") {
            let again = rows.insert(name, cells[1].to_owned());
            assert_eq!(again, None, "docs/dependencies.md: {name} has two rows");
        }
    }
    for (name, users) in &expected {
        match rows.get(name) {
            None => panic!("docs/dependencies.md has no row for {name}, used by: {users}"),
            Some(said) => assert_eq!(said, users, "docs/dependencies.md: {name} is used by these"),
        }
    }
    let gone: Vec<_> = rows.keys().filter(|name| !expected.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/dependencies.md has rows for what no manifest asks for: {gone:?}");
}

#[test]
fn nothing_is_asked_for_that_nothing_uses() {
    let manifests = manifests();
    let shared = table(&root().join("Cargo.toml"));
    for name in outside(shared["workspace"].get("dependencies")) {
        let used = manifests.iter().any(|ours| ours.runs.contains(&name) || ours.tests.contains(&name));
        assert!(used, "Cargo.toml: no crate of the workspace asks for {name}");
    }
    for ours in &manifests {
        let mut text = String::new();
        for folder in ["src", "tests", "benches", "fuzz_targets"] {
            collect(&ours.folder.join(folder), &mut text);
        }
        for name in ours.runs.union(&ours.tests) {
            let named = is_named(&text, &name.replace('-', "_"));
            let excused = NEVER_NAMED.contains(&(&ours.name, name));
            let place = ours.folder.join("Cargo.toml");
            assert!(named || excused, "{}: nothing there uses {name}", place.display());
            assert!(!(named && excused), "{name} is used by {}: take it out of NEVER_NAMED", ours.name);
        }
    }
}

/// Whether a text has a path that begins with this crate: not one in which its name ends another, or stands behind
/// another.
fn is_named(text: &str, name: &str) -> bool {
    text.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = &text[..at];
        let outer = before.strip_suffix("::").unwrap_or(before);
        let is_word =
            |text: &str| text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '>');
        !is_word(before) && (outer == before || !is_word(outer))
    })
}

#[test]
fn a_crate_is_named_where_a_path_begins_with_it() {
    for text in ["use ring::digest;", "x(ring::digest)", "::ring::digest", "use {ring::a}"] {
        assert!(is_named(text, "ring"), "{text}");
    }
    for text in ["String::ring::new()", "string::new()", "std::ring::x", "my_ring::x", "ring"] {
        assert!(!is_named(text, "ring"), "{text}");
    }
}

/// The Rust sources in a folder, one after another; nothing if there is no such folder.
fn collect(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&read(&path));
        }
    }
}
