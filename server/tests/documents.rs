//! What the pages in docs/ say is true.

use std::collections::BTreeMap;
use std::path::Path;

use whimbrel_server::config::Config;
use whimbrel_server::service::{SERVICES, Scope, table};
use whimbrel_storage::directory::Table;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every key with its default, as TOML writes it.
fn defaults() -> Vec<(String, String)> {
    fn add(prefix: &str, table: toml::Table, keys: &mut Vec<(String, String)>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(table) => add(&format!("{prefix}{key}."), table, keys),
                value => keys.push((format!("{prefix}{key}"), value.to_string())),
            }
        }
    }
    let table = toml::Table::try_from(Config::default()).expect("plain values");
    let mut keys = Vec::new();
    add("", table, &mut keys);
    assert!(keys.len() > 30, "the configuration has lost its keys: {keys:?}");
    keys
}

#[test]
fn the_table_of_keys_names_every_key_with_its_default_and_no_other() {
    let text = read("docs/config.md");
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        rows.push((cells[0].trim_matches('`').to_owned(), cells[1].trim_matches('`').to_owned()));
        assert!(cells.len() == 4 && !cells[3].is_empty(), "a row without four cells: {line}");
    }
    let mut expected = defaults();
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);
}

#[test]
fn the_example_is_the_defaults_as_it_stands_and_with_every_key_uncommented() {
    let path = Path::new("whimbrel.toml");
    let text = read("tools/service/whimbrel.toml");
    assert_eq!(Config::parse(&text, path).expect("it parses"), Config::default());

    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let uncommented: Vec<&str> =
        text.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    let table: toml::Table = toml::from_str(&uncommented.join("\n")).expect("it parses uncommented");
    assert_eq!(table, toml::Table::try_from(Config::default()).expect("plain values"));
}

/// Feature by feature, of whom disco announces it.
#[test]
fn the_page_of_the_protocol_shows_what_disco_announces() {
    let config = Config::default();
    let scopes = [Scope::Server, Scope::OwnAccount, Scope::OtherAccount, Scope::Nodes];
    let announced = scopes.map(|scope| table::features(SERVICES, &config, scope));
    let mut all: Vec<&str> = announced.iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut expected = String::from(
        "| feature | domain | own account | others' | nodes |\n| --- | --- | --- | --- | --- |\n",
    );
    for feature in all {
        let cells = announced.each_ref().map(|features| if features.contains(&feature) { "yes" } else { "" });
        expected += &format!("| `{feature}` | {} |\n", cells.join(" | "));
    }
    let text = read("docs/protocol.md");
    assert!(text.contains(&expected), "docs/protocol.md must have this table:\n{expected}");
}

#[test]
fn every_test_that_the_protocol_table_names_is_there() {
    let text = read("docs/protocol.md");
    let mut named = 0;
    for name in text.split('`').skip(1).step_by(2).filter(|code| code.contains("::")) {
        let (module, test) = name.rsplit_once("::").expect("it contains one");
        let source = read(&format!("server/tests/suite/{}.rs", module.replace("::", "/")));
        assert!(source.contains(&format!("fn {test}()")), "there is no test {name}");
        named += 1;
    }
    assert!(named > 50, "the table has lost its tests");
}

#[test]
fn the_page_of_the_directory_names_the_service_that_owns_each_table() {
    let text = read("docs/directory-format.md");
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for service in SERVICES {
        for table in service.tables {
            assert_eq!(owners.insert(table.name(), service.name), None, "two services own {}", table.name());
            // What is in it goes when the account goes.
            assert!(Table::OF_AN_ACCOUNT.contains(table), "{} stays when its account goes", table.name());
        }
    }
    for table in Table::ALL {
        let heading = format!("\n### `{}`\n", table.name());
        let section = text.split_once(&heading).expect("the page has each table").1;
        let section = section.split("\n### ").next().expect("there is a first part");
        let said = section
            .lines()
            .find_map(|line| line.strip_prefix("Service: "))
            .map(|line| line.trim_end_matches('.'));
        assert_eq!(said, owners.get(table.name()).copied(), "the service of {}", table.name());
    }
}

/// Headings of a page, as links name them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    let anchor = |line: &str| {
        let text: String =
            line.trim_start_matches('#').trim().to_lowercase().chars().filter(|c| kept(*c)).collect();
        text.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_pages_leads_to_a_heading() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let pages =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages: Vec<String> = pages.filter(|name| name.ends_with(".md")).collect();
    let mut links = 0;
    for page in &pages {
        let text = read(&format!("docs/{page}"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((to, heading)) = link.split_once('#') else { continue };
            let to = if to.is_empty() { page } else { to };
            if !pages.iter().any(|name| name == to) {
                continue;
            }
            let found = anchors(&read(&format!("docs/{to}"))).iter().any(|anchor| anchor == heading);
            assert!(found, "docs/{page} links to {link}, which is no heading");
            links += 1;
        }
    }
    assert!(links > 10, "{links} links");
}

/// Modules below a folder that are declared to need `unsafe`, each by the names that lead to it.
fn unsafe_modules(folder: &Path, above: &[String], found: &mut Vec<Vec<String>>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        let own = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let names = [above, &[own]].concat();
        if path.is_dir() {
            unsafe_modules(&path, &names, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.windows(2).filter(|pair| pair[0].contains("expect(unsafe_code")) {
                let module = pair[1].trim_end_matches([';', ' ', '{']).rsplit_once("mod ");
                let module = module.map(|(_, name)| name.to_owned()).filter(|name| name != "tests");
                found.extend(module.map(|name| [&names[..], &[name]].concat()));
            }
        }
    }
}

#[test]
fn the_page_on_architecture_names_every_module_that_needs_unsafe_or_one_above_it() {
    let text = read("docs/architecture.md");
    let (_, section) = text.split_once("## Where `unsafe` is").expect("the section");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    for of in ["server", "server/net", "server/xml", "storage", "wsar", "wsar/stats", "tools", "perf"] {
        let mut found = Vec::new();
        unsafe_modules(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of).join("src"),
            &[],
            &mut found,
        );
        let own = rows.iter().filter(|row| row.contains(&format!("`{of}`")));
        let named: Vec<&str> =
            own.flat_map(|row| row.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
        found.retain(|names| !names.iter().any(|name| named.contains(&name.as_str())));
        assert!(found.is_empty(), "{of}: not in the table: {found:?}");
    }
}
