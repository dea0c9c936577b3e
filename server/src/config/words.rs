//! What the parser says of a value that does not fit, in words for an operator: "a whole number is wanted here" where it
//! says "expected u32".

/// The parser's message in words. One that has none of the known forms stays as it is.
pub(super) fn plain(message: &str) -> String {
    for form in ["invalid type: ", "invalid value: "] {
        let Some((found, wanted)) =
            message.strip_prefix(form).and_then(|rest| rest.split_once(", expected "))
        else {
            continue;
        };
        return format!("{} is given, but {} is wanted", given(found), wanted_in_words(wanted));
    }
    if let Some((name, known)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        let known = known.strip_prefix("one of ").unwrap_or(known);
        return format!("\"{name}\" is not known here; use one of {}", known.replace('`', "\""));
    }
    // Unknown keys have been found before: what is left is how the parser stores a date.
    if message.starts_with("unknown field `$__toml") {
        return "a date is given, which is wanted nowhere".to_owned();
    }
    if message.contains("socket address") {
        return format!("this is not an address; {ADDRESS} is wanted");
    }
    message.to_owned()
}

const ADDRESS: &str = "an address with a port, like \"127.0.0.1:5222\" or \"[::1]:5222\",";

/// The value that is in the file.
fn given(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "string" => format!("the text {value}"),
        "integer" => format!("the number {}", value.trim_matches('`')),
        "floating" => format!("the number {}", value.trim_start_matches("point ").trim_matches('`')),
        "boolean" => value.trim_matches('`').to_owned(),
        "sequence" => "a list".to_owned(),
        "map" | "table" => "a table".to_owned(),
        "newtype" | "unit" => "something else".to_owned(),
        _ => found.replace('`', ""),
    }
}

/// What would fit.
fn wanted_in_words(wanted: &str) -> String {
    let number = |most: u64| format!("a whole number from 0 to {most}");
    match wanted {
        "u8" => number(u8::MAX.into()),
        "u16" => number(u16::MAX.into()),
        "u32" => number(u32::MAX.into()),
        // TOML has no larger ones.
        "u64" | "usize" => number(i64::MAX as u64),
        "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list in brackets, like [\"…\", \"…\"],".to_owned(),
        "a string" | "path string" | "str" => "a text in quotation marks".to_owned(),
        "socket address" => ADDRESS.to_owned(),
        "a map" => "a table".to_owned(),
        _ if wanted.starts_with("struct ") => "a table of keys".to_owned(),
        _ if wanted.contains("string or") => {
            "one of the words that docs/config.md lists, in quotation marks,".to_owned()
        }
        _ => wanted.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, ConfigError};
    use super::plain;

    #[test]
    fn what_the_parser_says_is_put_into_words() {
        let table = [
            (
                "invalid type: string \"many\", expected u32",
                "the text \"many\" is given, but a whole number from 0 to 4294967295 is wanted",
            ),
            (
                "invalid value: integer `-1`, expected u8",
                "the number -1 is given, but a whole number from 0 to 255 is wanted",
            ),
            (
                "invalid type: boolean `true`, expected a string",
                "true is given, but a text in quotation marks is wanted",
            ),
            (
                "unknown variant `kqueue`, expected one of `auto`, `mio`, `uring`",
                "\"kqueue\" is not known here; use one of \"auto\", \"mio\", \"uring\"",
            ),
            ("unclosed array, expected `]`", "unclosed array, expected `]`"),
        ];
        for (message, expected) in table {
            assert_eq!(plain(message), expected);
        }
    }

    /// The words of the programmer's types are in none of the messages, whatever is given to whatever key.
    #[test]
    fn no_message_speaks_of_types() {
        let wrong = ["true", "-1", "1.5", "99999999999", "'x'", "[]", "[1]", "['x']", "{}", "1979-05-27"];
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        let mut keys = Vec::new();
        for (key, value) in &defaults {
            keys.push((String::new(), key.clone()));
            let inner = value.as_table().into_iter().flatten();
            keys.extend(inner.map(|(name, _)| (format!("[{key}]\n"), name.clone())));
        }
        let mut said = 0;
        for (table, key) in &keys {
            for value in wrong {
                let text = format!("{table}{key} = {value}\n");
                let Err(ConfigError::Syntax { message, .. }) = Config::parse(&text, Path::new("w.toml"))
                else {
                    continue;
                };
                said += 1;
                let about = message.split("): ").nth(1).unwrap_or(&message);
                for word in
                    ["expected", "invalid type", "invalid value", "u32", "u64", "sequence", "struct ", "map"]
                {
                    assert!(!about.contains(word), "{text}: {message}");
                }
            }
        }
        assert!(said > 300, "{said}");
    }
}
