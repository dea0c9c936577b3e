//! Tables as programs in Lua write them to files: nothing is run.

/// How deep tables may lie in one another; Prosody writes 127.
const DEPTH_MAX: usize = 200;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A string, which is UTF-8 in everything that is read here.
    Text(String),
    /// A number; nobody asks which.
    Number,
    /// `true`, `false` or `nil`.
    Word(&'static str),
    Table(Table),
}

/// A table: what has no key, or a number, in its order, and the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) list: Vec<Value>,
    pub(super) fields: Vec<(Value, Value)>,
}

impl Table {
    fn get(&self, key: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find_map(|(name, value)| matches!(name, Value::Text(name) if name == key).then_some(value))
    }

    /// The text of a field.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table of a field.
    pub(super) fn table(&self, key: &str) -> Option<&Table> {
        match self.get(key)? {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// The tables of a file: `return {…}`, or `item({…})` any number of times.
///
/// # Errors
/// It has something else.
pub(super) fn tables(bytes: &[u8]) -> Result<Vec<Table>, String> {
    let mut reader = Reader { bytes, at: 0 };
    let mut tables = Vec::new();
    loop {
        while reader.takes(b";") {}
        if reader.blank().is_none() {
            return Ok(tables);
        }
        let is_item = reader.takes(b"item");
        if is_item {
            reader.wants(b"(")?;
        } else {
            reader.wants(b"return")?;
        }
        match reader.value(0)? {
            Value::Table(table) => tables.push(table),
            _ => return Err(reader.wrong("a table")),
        }
        if is_item {
            reader.wants(b")")?;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Passes blanks; the byte after them.
    fn blank(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn takes(&mut self, token: &[u8]) -> bool {
        self.blank();
        let is_there = self.bytes[self.at..].starts_with(token);
        if is_there {
            self.at += token.len();
        }
        is_there
    }

    fn wants(&mut self, token: &[u8]) -> Result<(), String> {
        if self.takes(token) {
            Ok(())
        } else {
            Err(self.wrong(&format!("`{}`", String::from_utf8_lossy(token))))
        }
    }

    fn wrong(&self, wanted: &str) -> String {
        let line =
            self.bytes[..self.at.min(self.bytes.len())].iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("line {line}: {wanted} is to be there")
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        match self.blank() {
            Some(b'{') if depth >= DEPTH_MAX => Err(self.wrong("a table that lies less deep")),
            Some(b'{') => self.table(depth).map(Value::Table),
            Some(quote @ (b'"' | b'\'')) => self.string(quote).map(Value::Text),
            Some(b'0'..=b'9' | b'-' | b'.') => {
                let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                while self.bytes.get(self.at).is_some_and(is_digit) {
                    self.at += 1;
                }
                Ok(Value::Number)
            }
            _ => ["true", "false", "nil"]
                .into_iter()
                .find(|word| self.takes(word.as_bytes()))
                .map(Value::Word)
                .ok_or_else(|| self.wrong("a value")),
        }
    }

    fn table(&mut self, depth: usize) -> Result<Table, String> {
        self.wants(b"{")?;
        let mut table = Table::default();
        while !self.takes(b"}") {
            let key = if self.takes(b"[") {
                let key = self.value(depth + 1)?;
                self.wants(b"]")?;
                self.wants(b"=")?;
                Some(key)
            } else {
                self.name()
            };
            let value = self.value(depth + 1)?;
            match key {
                None | Some(Value::Number) => table.list.push(value),
                Some(key) => table.fields.push((key, value)),
            }
            if !(self.takes(b";") || self.takes(b",")) && self.blank() != Some(b'}') {
                return Err(self.wrong("`;` or `}`"));
            }
        }
        Ok(table)
    }

    /// A key without quotes, with the sign behind it.
    fn name(&mut self) -> Option<Value> {
        self.blank();
        let before = self.at;
        while self.bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            self.at += 1;
        }
        let name = String::from_utf8_lossy(&self.bytes[before..self.at]).into_owned();
        if !name.is_empty() && self.takes(b"=") {
            return Some(Value::Text(name));
        }
        self.at = before;
        None
    }

    fn string(&mut self, quote: u8) -> Result<String, String> {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.wrong("the end of a string"))?;
            self.at += 1;
            match byte {
                b'\\' => text.push(self.escape()?),
                _ if byte == quote => break,
                _ => text.push(byte),
            }
        }
        String::from_utf8(text).map_err(|_| self.wrong("UTF-8"))
    }

    fn escape(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.wrong("the end of a string"))?;
        if byte.is_ascii_digit() {
            let digits =
                self.bytes[self.at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
            let number = self.bytes[self.at..self.at + digits]
                .iter()
                .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            self.at += digits;
            return u8::try_from(number).map_err(|_| self.wrong("a byte"));
        }
        self.at += 1;
        Ok(match byte {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'"' | b'\'' | b'\n' => byte,
            _ => return Err(self.wrong("an escape that Lua has")),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_lua_reads_them() {
        let found =
            tables(b"return { a = 'x\\10\\065\\\\', [\"b c\"] = { true, nil; -1.5e3 }, [2] = \"z\"; };")
                .unwrap();
        let [table] = &found[..] else { panic!("{found:?}") };
        assert_eq!(table.text("a"), Some("x\nA\\"));
        assert_eq!(table.list, [Value::Text("z".into())]);
        assert_eq!(
            table.table("b c").unwrap().list,
            [Value::Word("true"), Value::Word("nil"), Value::Number]
        );
        assert_eq!(tables(b"item({});\nitem({ 1 });\n").unwrap().len(), 2);
        assert_eq!(tables(b" \n").unwrap(), []);
    }

    #[test]
    fn nothing_else_is_taken_for_a_table() {
        let deep = format!("return {}{}", "{".repeat(10_000), "}".repeat(10_000));
        for text in [
            "return os.exit()",
            "return { a = }",
            "return {",
            "item({})}",
            "return { 'x }",
            "return { '\\q' }",
            "return { '\\999' }",
            "return { 'a' 'b' }",
            "return 1",
            "os.execute()",
            "return { f() }",
            &deep,
        ] {
            assert!(tables(text.as_bytes()).is_err(), "{}", &text[..text.len().min(40)]);
        }
        for cut in 0..40 {
            let _ = tables(&b"item({ [\"name\"] = \"message\"; { 'x\\12'; }; });"[..cut]);
        }
    }
}
