use proptest::prelude::*;

use super::*;

const LENIENT: KeyRules = KeyRules { syntax: KeySyntax::Lenient, max_length_bytes: 255 };
const STRICT: KeyRules = KeyRules { syntax: KeySyntax::Strict, max_length_bytes: 255 };

fn parse(value: &str, rules: KeyRules) -> Result<String, KeyError> {
    let key = Key::parse([value.as_bytes()], rules)?.expect("a line was given");
    Ok(String::from_utf8(key.as_bytes().to_vec()).unwrap())
}

#[test]
fn each_spelling_is_read_or_refused_as_the_table_says() {
    let long = "k".repeat(255);
    let too_long = "k".repeat(256);
    let quoted_long = format!("\"{long}\"");
    type Read<'a> = Result<&'a str, KeyError>;
    let table: &[(&str, Read<'_>, Read<'_>)] = &[
        ("k", Ok("k"), Err(KeyError::Unquoted)),
        ("\"k\"", Ok("k"), Ok("k")),
        (
            "8e03978e-40d5-43e8-bc93-6894a57f9324",
            Ok("8e03978e-40d5-43e8-bc93-6894a57f9324"),
            Err(KeyError::Unquoted),
        ),
        (" k\t", Ok("k"), Err(KeyError::Unquoted)),
        ("a;b=c", Ok("a;b=c"), Err(KeyError::Unquoted)),
        ("a/b+c==", Ok("a/b+c=="), Err(KeyError::Unquoted)),
        ("\"a,b c\"", Ok("a,b c"), Ok("a,b c")),
        ("\"a\\\"b\\\\\"", Ok("a\"b\\"), Ok("a\"b\\")),
        ("", Err(KeyError::Empty), Err(KeyError::Empty)),
        ("  ", Err(KeyError::Empty), Err(KeyError::Empty)),
        ("\"\"", Err(KeyError::Empty), Err(KeyError::Empty)),
        ("\"   \"", Err(KeyError::Empty), Err(KeyError::Empty)),
        ("\"k", Err(KeyError::Malformed), Err(KeyError::Malformed)),
        ("\"k\" x", Err(KeyError::Malformed), Err(KeyError::Malformed)),
        ("\"a\",\"b\"", Err(KeyError::Malformed), Err(KeyError::Malformed)),
        ("\"a\\x\"", Err(KeyError::Malformed), Err(KeyError::Malformed)),
        ("\"k\";a=1", Err(KeyError::Parameters), Err(KeyError::Parameters)),
        ("a,b", Err(KeyError::Bare), Err(KeyError::Unquoted)),
        ("a b", Err(KeyError::Bare), Err(KeyError::Unquoted)),
        ("a\"b", Err(KeyError::Bare), Err(KeyError::Unquoted)),
        ("é", Err(KeyError::Bare), Err(KeyError::Unquoted)),
        ("\"é\"", Err(KeyError::Malformed), Err(KeyError::Malformed)),
        (&long, Ok(&long), Err(KeyError::Unquoted)),
        (&quoted_long, Ok(&long), Ok(&long)),
        (&too_long, Err(KeyError::TooLong { max_length_bytes: 255 }), Err(KeyError::Unquoted)),
    ];
    for (value, lenient, strict) in table {
        assert_eq!(parse(value, LENIENT).as_deref().map_err(|e| *e), *lenient, "lenient {value:?}");
        assert_eq!(parse(value, STRICT).as_deref().map_err(|e| *e), *strict, "strict {value:?}");
    }
}

#[test]
fn no_field_line_is_no_key_and_two_are_too_many() {
    assert_eq!(Key::parse([], LENIENT), Ok(None));
    assert_eq!(Key::parse([&b"a"[..], b"a"], LENIENT), Err(KeyError::Several));
}

#[test]
fn a_key_prints_as_the_first_8_hex_digits_of_its_hash() {
    let key = Key::parse([&b"secret"[..]], LENIENT).unwrap().unwrap();
    assert_eq!(format!("{key:?}"), "Key(2bb80d53)");
}

proptest! {
    #[test]
    fn parsing_never_panics_on_any_bytes(value in prop::collection::vec(any::<u8>(), 0..300)) {
        for rules in [LENIENT, STRICT] {
            if let Ok(Some(key)) = Key::parse([value.as_slice()], rules) {
                prop_assert!(!key.as_bytes().is_empty() && key.as_bytes().len() <= 255);
            }
        }
    }

    #[test]
    fn quoting_a_bare_key_gives_the_same_key(text in "[!#-+\\--\\[\\]-~]{1,64}") {
        prop_assert_eq!(parse(&text, LENIENT), parse(&format!("\"{text}\""), STRICT));
    }
}
