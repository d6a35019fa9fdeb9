use proptest::prelude::*;

use super::*;

#[test]
fn each_path_is_canonical_or_at_fault_as_the_table_says() {
    use PathFault::*;
    let table: &[(&str, Result<(), PathFault>)] = &[
        ("/", Ok(())),
        ("/v1/charges", Ok(())),
        ("/v1/charges/", Ok(())),
        ("/V1/Charges", Ok(())),
        ("/v1/a.b/...", Ok(())),
        ("/.well-known/x", Ok(())),
        ("/v1/..a/.b", Ok(())),
        ("/v1/!$&'()*+,=:@[]", Ok(())),
        ("/v1/%40%2C%3a", Ok(())),
        ("/v1/a%20b%22%3C%3E%5B%7B", Ok(())),
        ("/v1/caf%C3%A9", Ok(())),
        ("/v1/caf%E9", Ok(())),
        ("/v1/%C0", Ok(())),
        ("/v1/%E0%A4%A9", Ok(())),
        ("/v1/100%25", Ok(())),
        ("/v1/100%25x", Ok(())),
        ("/v1/a%3Fb%23", Ok(())),
        ("/.", Err(DotSegment)),
        ("/v1/./charges", Err(DotSegment)),
        ("/v1/../charges", Err(DotSegment)),
        ("/v1/charges/..", Err(DotSegment)),
        ("/v1/%2e/charges", Err(DotSegment)),
        ("/v1/.%2E/charges", Err(DotSegment)),
        ("/v1/%2e.", Err(DotSegment)),
        ("//v1", Err(EmptySegment)),
        ("/v1//charges", Err(EmptySegment)),
        ("/v1/charges//", Err(EmptySegment)),
        ("/v1\\charges", Err(Backslash)),
        ("/v1%5ccharges", Err(Backslash)),
        ("/v1/charges;", Err(Semicolon)),
        ("/v1/charges;a=b", Err(Semicolon)),
        ("/v1/charges%3Ba", Err(Semicolon)),
        ("/v1/charges\0", Err(ControlCharacter)),
        ("/v1/charges\t", Err(ControlCharacter)),
        ("/v1/charges\x7f", Err(ControlCharacter)),
        ("/v1/charges%00", Err(ControlCharacter)),
        ("/v1/charges%0A", Err(ControlCharacter)),
        ("/v1/charges%7f", Err(ControlCharacter)),
        ("/v1%2Fcharges", Err(EncodedSlash)),
        ("/v1/%", Err(MalformedEncoding)),
        ("/v1/%4", Err(MalformedEncoding)),
        ("/v1/%4g", Err(MalformedEncoding)),
        ("/v1/%+4", Err(MalformedEncoding)),
        ("/v1/%u0063harges", Err(MalformedEncoding)),
        ("/v1/%63harges", Err(NeedlessEncoding)),
        ("/v1/a%2Eb", Err(NeedlessEncoding)),
        ("/v1/a%7e", Err(NeedlessEncoding)),
        ("/v1/%2563harges", Err(DoubleEncoding)),
        ("/v1/%252F", Err(DoubleEncoding)),
        ("/v1%c0%afcharges", Err(OverlongEncoding)),
        ("/v1/%c1%81", Err(OverlongEncoding)),
        ("/v1/%e0%80%af", Err(OverlongEncoding)),
        ("/v1/a b", Err(UnencodedCharacter)),
        ("/v1/a\"b", Err(UnencodedCharacter)),
        ("/v1/<a>", Err(UnencodedCharacter)),
        ("/v1/a^`{|}", Err(UnencodedCharacter)),
        ("/v1/café", Err(UnencodedCharacter)),
    ];
    for (path, expected) in table {
        assert_eq!(is_canonical(path), *expected, "{path:?}");
    }
}

#[test]
fn spellings_of_one_resource_enter_the_id_alike() {
    let table = [
        ("/v1/charges", "/v1/charges"),
        ("/v1/a%40b", "/v1/a@b"),
        ("/v1/%21%24%26%27%28%29%2a%2B%2c%3D%3a%40%5b%5D", "/v1/!$&'()*+,=:@[]"),
        ("/v1/caf%c3%a9", "/v1/caf%C3%A9"),
        ("/v1/caf%C3%A9", "/v1/caf%C3%A9"),
        ("/v1/a%3bb", "/v1/a%3Bb"),
        ("/v1/100%25%", "/v1/100%25%"),
        ("/v1/%zz%2", "/v1/%zz%2"),
        ("/v1/%é", "/v1/%é"),
        ("%40", "@"),
    ];
    for (path, expected) in table {
        assert_eq!(identity(path), expected, "{path:?}");
    }
    assert!(matches!(identity("/v1/charges"), Cow::Borrowed(_)));
}

/// Segments of a resource, each character with the way it is spelled in two requests.
fn two_spellings() -> impl Strategy<Value = (String, String)> {
    let spell = |byte: u8, way: u8| match way {
        0 if byte.is_ascii() => char::from(byte).to_string(),
        1 => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    let character = (prop_oneof![0x20..0x80_u8, any::<u8>()], 0..3_u8, 0..3_u8);
    prop::collection::vec(character, 0..3).prop_map(move |characters| {
        let one = characters.iter().map(|&(byte, way, _)| spell(byte, way));
        let other = characters.iter().map(|&(byte, _, way)| spell(byte, way));
        (format!("/a{}", one.collect::<String>()), format!("/a{}", other.collect::<String>()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_path_makes_judging_panic(path in any::<String>()) {
        drop((is_canonical(&path), identity(&path)));
    }

    #[test]
    fn canonical_spellings_of_one_resource_are_one_in_the_id((one, other) in two_spellings()) {
        if is_canonical(&one).is_ok() && is_canonical(&other).is_ok() {
            prop_assert_eq!(identity(&one), identity(&other), "{} {}", one, other);
        }
    }

    #[test]
    fn canonical_paths_of_different_resources_differ_in_the_id(
        (one, _) in two_spellings(),
        (other, _) in two_spellings(),
    ) {
        let decoded = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
        if is_canonical(&one).is_ok() && is_canonical(&other).is_ok() && decoded(&one) != decoded(&other) {
            prop_assert_ne!(identity(&one), identity(&other));
        }
    }
}
