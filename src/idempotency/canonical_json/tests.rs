use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn canonical(body: &str) -> Result<Vec<u8>, JsonError> {
    Selection::default().canonicalize(body.as_bytes())
}

#[test]
fn what_does_not_matter_gives_the_same_form() {
    for (one, other) in [
        (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true,\n null ],\t\"a\": 1 }"),
        (r#"{"a":"é/"}"#, r#"{"a":"\u00e9\/"}"#),
        (r#"{"\u0061":1}"#, r#"{"a":1}"#),
        (" 1 ", "1"),
    ] {
        assert_eq!(canonical(one).unwrap(), canonical(other).unwrap(), "{one} and {other}");
    }
}

#[test]
fn what_matters_gives_another_form() {
    for (one, other) in [
        ("9007199254740993", "9007199254740992"),
        ("1", "1.0"),
        ("100", "1e2"),
        ("1", "\"1\""),
        ("0", "-0"),
        ("[1,2]", "[2,1]"),
        ("[]", "{}"),
        ("[[],[]]", "[[[]]]"),
        ("null", "\"null\""),
        (r#"{"a":null}"#, "{}"),
        (r#"["a\",\"b"]"#, r#"["a","b"]"#),
    ] {
        assert_ne!(canonical(one).unwrap(), canonical(other).unwrap(), "{one} and {other}");
    }
}

#[test]
fn what_has_no_form_is_refused() {
    for (body, error) in [
        ("", JsonError::NotJson),
        ("{", JsonError::NotJson),
        ("a=1", JsonError::NotJson),
        ("1 2", JsonError::NotJson),
        (r#""\ud800""#, JsonError::NotJson),
        (r#"{"a":1,"a":1}"#, JsonError::DuplicateKey),
        (r#"{"x":[{"a":1,"\u0061":2}]}"#, JsonError::DuplicateKey),
    ] {
        assert_eq!(canonical(body), Err(error), "{body}");
    }
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(canonical(&deep(MAX_DEPTH)).is_ok());
    assert_eq!(canonical(&deep(MAX_DEPTH + 2)), Err(JsonError::TooDeep));
    assert_eq!(Selection::default().canonicalize(b"\"\xff\""), Err(JsonError::NotJson));
}

#[test]
fn include_and_exclude_choose_what_counts() {
    let chosen = |include: &[&'static str], exclude: &[&'static str], body: &str| {
        Selection::new(include, exclude).unwrap().canonicalize(body.as_bytes()).unwrap()
    };
    let body = r#"{"amount":1,"meta":{"trace":"x","a/b":2},"items":[{"id":1},{"id":2}]}"#;
    for (include, exclude, same, differs) in [
        (
            &["/amount"][..],
            &[][..],
            r#"{"amount":1,"meta":7}"#,
            r#"{"amount":2,"meta":{"trace":"x","a/b":2},"items":[{"id":1},{"id":2}]}"#,
        ),
        (
            &[],
            &["/meta/trace"],
            r#"{"amount":1,"meta":{"trace":"y","a/b":2},"items":[{"id":1},{"id":2}]}"#,
            r#"{"amount":1,"meta":{"trace":"x","a/b":3},"items":[{"id":1},{"id":2}]}"#,
        ),
        (
            &["/meta"],
            &["/meta/a~1b"],
            r#"{"meta":{"trace":"x","a/b":9}}"#,
            r#"{"meta":{"trace":"y","a/b":2}}"#,
        ),
        (&["/items/1/id"], &[], r#"{"items":[0,{"id":2}]}"#, r#"{"items":[{"id":2},{"id":1}]}"#),
    ] {
        assert_eq!(chosen(include, exclude, body), chosen(include, exclude, same), "{include:?} {exclude:?}");
        assert_ne!(
            chosen(include, exclude, body),
            chosen(include, exclude, differs),
            "{include:?} {exclude:?}"
        );
    }
    assert_ne!(chosen(&["/a"], &[], "{}"), chosen(&["/a"], &[], r#"{"a":null}"#), "absent is not null");
}

#[test]
fn a_string_that_is_no_pointer_is_named() {
    for text in ["a", "a/b", "/a~2", "/~"] {
        assert_eq!(Selection::new(&[text], &[]), Err(text));
        assert_eq!(Selection::new(&[], &[text]), Err(text));
    }
}

/// Writes `value` with its keys in another order and white space wherever it may stand.
fn respell(value: &Value, space: &str) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(name, member)| {
                    format!("{space}{}{space}:{}", Value::from(name.as_str()), respell(member, space))
                })
                .collect();
            format!("{space}{{{}{space}}}{space}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| respell(item, space)).collect();
            format!("{space}[{}{space}]{space}", items.join(","))
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            format!("{space}{scalar}{space}")
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\"\\\\é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn key_order_and_white_space_never_matter(value in json()) {
        prop_assert_eq!(canonical(&value.to_string()), canonical(&respell(&value, " \n\t")));
    }

    #[test]
    fn different_values_never_share_a_form(one in json(), other in json()) {
        prop_assert_eq!(one == other, canonical(&one.to_string()) == canonical(&other.to_string()));
    }

    #[test]
    fn a_numbers_text_matters(one in "-?[1-9][0-9]{0,20}(\\.[0-9]{1,3})?", other in "-?[1-9][0-9]{0,20}(\\.[0-9]{1,3})?") {
        prop_assert_eq!(one == other, canonical(&one) == canonical(&other));
    }

    #[test]
    fn a_doubled_key_is_refused(name in "[a-c]{0,3}", one in json(), other in json()) {
        let body = format!("{{\"{name}\":{one},\"{name}\":{other}}}");
        prop_assert_eq!(canonical(&body), Err(JsonError::DuplicateKey));
    }

    #[test]
    fn canonicalizing_never_panics_on_any_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let selection = Selection::new(&["/a"], &["/a/0"]).unwrap();
        prop_assert!(selection.canonicalize(&body).is_ok() || Selection::default().canonicalize(&body).is_err());
    }
}
