use super::submitted::{FIELDS_MAX, VALUES_MAX};
use super::*;
use crate::proto::errors::{StanzaCondition, StanzaError};

const TYPE: &str = "urn:example:form";

fn element(inside: &str) -> Element {
    let hidden = format!("<field var='FORM_TYPE' type='hidden'><value>{TYPE}</value></field>");
    let form = format!("<x xmlns='jabber:x:data' type='submit'>{hidden}{inside}</x>");
    Element::parse(form.as_bytes()).unwrap()
}

/// What `look` finds in the fields of a form.
fn with<T>(inside: &str, look: impl FnOnce(&mut Submitted<'_>) -> T) -> T {
    let form = element(inside);
    look(&mut Submission::read(&form, TYPE).and_then(Submission::submitted).expect("a good form"))
}

/// A field `f` with these values.
fn field(values: &[&str]) -> String {
    let values: String = values.iter().map(|value| format!("<value>{value}</value>")).collect();
    format!("<field var='f'>{values}</field>")
}

fn value_error<T>(expected: &'static str) -> Result<T, FormError> {
    Err(FormError::Value { field: "f".into(), expected })
}

#[test]
fn a_form_that_breaks_a_rule_of_all_forms_is_refused() {
    let hidden = |typ: &str| format!("<field var='FORM_TYPE'><value>{typ}</value></field>");
    let other = || Err(FormError::OtherType(TYPE.into()));
    let many_fields: String = (0..FIELDS_MAX).map(|n| format!("<field var='{n}'/>")).collect();
    let many_values = "<value/>".repeat(VALUES_MAX);
    let table = [
        (format!("<x xmlns='jabber:x:data' type='submit'>{}</x>", hidden(TYPE)), Ok(true)),
        (format!("<x xmlns='jabber:x:data' type='cancel'>{}</x>", hidden("other")), Ok(false)),
        (format!("<x xmlns='jabber:x:data' type='form'>{}</x>", hidden(TYPE)), Err(FormError::NotSubmitted)),
        (format!("<x xmlns='jabber:x:data'>{}</x>", hidden(TYPE)), Err(FormError::NotSubmitted)),
        (format!("<x xmlns='urn:x' type='submit'>{}</x>", hidden(TYPE)), Err(FormError::NotSubmitted)),
        ("<x xmlns='urn:x' type='cancel'/>".into(), Err(FormError::NotSubmitted)),
        (format!("<x xmlns='jabber:x:data' type='submit'>{}</x>", hidden("other")), other()),
        ("<x xmlns='jabber:x:data' type='submit'/>".into(), other()),
        ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'/></x>".into(), other()),
        (
            format!("<x xmlns='jabber:x:data' type='submit'>{}<field/></x>", hidden(TYPE)),
            Err(FormError::NoName),
        ),
        (
            format!("<x xmlns='jabber:x:data' type='submit'>{}<field type='fixed'/></x>", hidden(TYPE)),
            Ok(true),
        ),
        (
            format!(
                "<x xmlns='jabber:x:data' type='submit'>{}<field var='a'/><field var='a'/></x>",
                hidden(TYPE)
            ),
            Err(FormError::Twice("a".into())),
        ),
        (
            format!("<x xmlns='jabber:x:data' type='submit'>{}{many_fields}</x>", hidden(TYPE)),
            Err(FormError::TooLarge),
        ),
        (
            format!(
                "<x xmlns='jabber:x:data' type='submit'>{}<field var='a'>{many_values}</field></x>",
                hidden(TYPE)
            ),
            Err(FormError::TooLarge),
        ),
    ];
    for (form, expected) in table {
        let parsed = Element::parse(form.as_bytes()).unwrap();
        let read = Submission::read(&parsed, TYPE);
        assert_eq!(read.map(|read| matches!(read, Submission::Submitted(_))), expected, "{form:.200}");
    }
}

#[test]
fn the_type_may_be_left_out_where_it_is_implied_but_not_be_another() {
    for (inside, accepted) in [
        ("", true),
        ("<field var='FORM_TYPE'><value>urn:example:form</value></field>", true),
        ("<field var='FORM_TYPE'><value>urn:example:other</value></field>", false),
    ] {
        let form = format!("<x xmlns='jabber:x:data' type='submit'>{inside}</x>");
        let form = Element::parse(form.as_bytes()).unwrap();
        assert_eq!(Submission::read_implied(&form, TYPE).is_ok(), accepted, "{inside}");
    }
}

#[test]
fn text_has_at_most_one_value() {
    let text = |inside: &str| with(inside, |form| form.text("f").map(|text| text.map(String::from)));
    assert_eq!(text(""), Ok(None));
    assert_eq!(text(&field(&[])), Ok(Some(String::new())));
    assert_eq!(text(&field(&[""])), Ok(Some(String::new())));
    assert_eq!(text(&field(&["a &lt; b"])), Ok(Some("a < b".into())));
    assert_eq!(text(&field(&["a", "b"])), Err(FormError::TooManyValues("f".into())));
    let needed = |inside: &str| with(inside, |form| form.needed_text("f").map(String::from));
    assert_eq!(needed(&field(&["a"])), Ok("a".into()));
    for missing in [String::new(), field(&[]), field(&[""])] {
        assert_eq!(needed(&missing), Err(FormError::Missing("f".into())), "{missing}");
    }
}

#[test]
fn lines_stay_as_they_are() {
    let lines = |inside: &str| {
        with(inside, |form| {
            form.lines("f").map(|lines| lines.into_iter().map(String::from).collect::<Vec<_>>())
        })
    };
    assert_eq!(lines(""), None);
    assert_eq!(lines(&field(&[])), Some(vec![]));
    assert_eq!(lines(&field(&["b", "", "a", "b"])).unwrap(), ["b", "", "a", "b"]);
}

#[test]
fn a_boolean_has_four_spellings() {
    let boolean = |inside: &str| with(inside, |form| form.boolean("f"));
    for (value, expected) in [("1", true), ("true", true), ("0", false), ("false", false)] {
        assert_eq!(boolean(&field(&[value])), Ok(Some(expected)), "{value}");
    }
    for value in ["", "True", "yes", "2", " 1"] {
        assert_eq!(boolean(&field(&[value])), value_error("1, true, 0 or false"), "{value}");
    }
    assert_eq!(boolean(""), Ok(None));
    assert_eq!(boolean(&field(&["1", "1"])), Err(FormError::TooManyValues("f".into())));
}

#[test]
fn addresses_are_normalised_and_named_once() {
    let jid =
        |inside: &str| with(inside, |form| form.jid("f").map(|jid| jid.map(|jid| jid.as_str().to_owned())));
    assert_eq!(jid(&field(&["Juliet@X.org/Balcony"])), Ok(Some("juliet@x.org/Balcony".into())));
    assert_eq!(jid(&field(&[""])), Ok(None));
    assert_eq!(jid(""), Ok(None));
    assert_eq!(jid(&field(&["@x"])), value_error("an address"));
    let jids = |inside: &str| {
        with(inside, |form| {
            let jids = form.jids("f")?;
            Ok(jids.map(|jids| jids.iter().map(|jid| jid.as_str().to_owned()).collect::<Vec<_>>()))
        })
    };
    assert_eq!(jids(&field(&["b@x", "A@x", "B@X"])), Ok(Some(vec!["a@x".into(), "b@x".into()])));
    assert_eq!(jids(&field(&[])), Ok(Some(vec![])));
    assert_eq!(jids(""), Ok(None));
    assert_eq!(jids(&field(&["a@x", ""])), value_error("an address"));
}

#[test]
fn lists_have_only_their_options() {
    let options = [("one", 1), ("two", 2), ("three", 3)];
    let choice = |inside: &str| with(inside, |form| form.choice("f", &options));
    assert_eq!(choice(&field(&["two"])), Ok(Some(2)));
    assert_eq!(choice(""), Ok(None));
    assert_eq!(choice(&field(&["four"])), value_error("one of the options"));
    assert_eq!(choice(&field(&[])), value_error("one of the options"));
    assert_eq!(choice(&field(&["one", "two"])), Err(FormError::TooManyValues("f".into())));
    let choices = |inside: &str| with(inside, |form| form.choices("f", &options));
    assert_eq!(choices(&field(&["three", "one", "three"])), Ok(Some(vec![1, 3])));
    assert_eq!(choices(&field(&[])), Ok(Some(vec![])));
    assert_eq!(choices(""), Ok(None));
    assert_eq!(choices(&field(&["one", "four"])), value_error("one of the options"));
}

#[test]
fn what_nobody_asked_for_is_listed() {
    let inside = "<field var='b'/><field var='a'/><title>t</title><field xmlns='urn:x' var='z'/>";
    with(inside, |form| {
        assert_eq!(form.unread().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(form.text("a"), Ok(Some("".into())));
        assert_eq!(form.unread().collect::<Vec<_>>(), ["b"]);
    });
    let form = element(inside);
    let read = || Submission::read(&form, TYPE).and_then(Submission::submitted).unwrap();
    assert_eq!(read().finish(), Err(FormError::Unknown("a".into())));
    let mut all = read();
    assert_eq!((all.lines("a").is_some(), all.lines("b").is_some(), all.finish()), (true, true, Ok(())));
}

#[test]
fn every_error_has_a_condition_and_a_text_of_bounded_length() {
    let long = "\u{e9}".repeat(5000);
    let form = element(&format!("<field var='{long}'><value/><value/></field>"));
    let mut read = Submission::read(&form, TYPE).and_then(Submission::submitted).unwrap();
    let error = StanzaError::from(read.text(&long).unwrap_err());
    assert_eq!(error.condition, StanzaCondition::NotAcceptable);
    assert!(error.text.unwrap().len() < 200);
    assert_eq!(StanzaError::from(FormError::NotSubmitted).condition, StanzaCondition::BadRequest);
}

#[test]
fn a_form_is_written_as_it_was_described() {
    let form = Form::to_fill_in(TYPE)
        .title("T")
        .instructions("I")
        .field(Field::new(FieldType::Boolean, "b").label("B").flag(true))
        .field(
            Field::new(FieldType::ListSingle, "l")
                .option("One", "1")
                .option("Two", "2")
                .value("2")
                .required(),
        )
        .into_element();
    let expected = "<x xmlns=\"jabber:x:data\" type=\"form\">\
        <field var=\"FORM_TYPE\" type=\"hidden\"><value>urn:example:form</value></field>\
        <title>T</title><instructions>I</instructions>\
        <field var=\"b\" type=\"boolean\" label=\"B\"><value>1</value></field>\
        <field var=\"l\" type=\"list-single\">\
        <option label=\"One\"><value>1</value></option><option label=\"Two\"><value>2</value></option>\
        <value>2</value><required/></field></x>";
    assert_eq!(String::from_utf8(form.to_bytes()).unwrap(), expected);
}

#[test]
fn what_is_written_reads_back_when_it_is_submitted() {
    let mut form = Form::result(TYPE)
        .field(Field::new(FieldType::TextMulti, "lines").value("a").value("b"))
        .field(Field::new(FieldType::JidMulti, "jids").value("a@x"))
        .field(Field::new(FieldType::TextPrivate, "secret").value("s"))
        .into_element();
    form.set_attribute("type", "submit");
    let mut read = Submission::read(&form, TYPE).and_then(Submission::submitted).unwrap();
    assert_eq!(read.lines("lines").unwrap(), ["a", "b"]);
    assert_eq!(read.jids("jids").unwrap().unwrap().len(), 1);
    assert_eq!(read.needed_text("secret").unwrap(), "s");
    assert_eq!(read.finish(), Ok(()));
}
