use proptest::prelude::*;

use super::*;

fn readings(path: &str) -> Vec<String> {
    let mut readings = Vec::new();
    any_reading(path, |reading| {
        readings.push(fold(reading).into_owned());
        false
    })
    .unwrap_or_else(|_| panic!("{path:?} is too ambiguous"));
    readings
}

#[test]
fn each_lenient_reading_is_found() {
    let spellings = [
        "/v1/charges",
        "/v1/charges/",
        "/V1/CHARGES",
        "/v1/%63harges",
        "/v1/%2563harges",
        "/v1/%252563harges",
        "/v1/%25252563harges",
        "/v1%2Fcharges",
        "/v1%5Ccharges",
        "/v1\\charges",
        "//v1//charges",
        "/v1/./charges",
        "/v1/x/../charges",
        "/v1/x/%2e%2E/charges",
        "/v1/x/..;/charges",
        "/v1/x/..;a=b/charges",
        "/v1;a/charges;b=c",
        "/v1/charges;a/b/c",
        "/v1/charges%3Ba/b/c",
        "/v1/charges%00",
        "/v1/charges%00.png",
        "/v1/charges%00/x",
        "/v1/charges%3Fx=y",
        "/v1/charges%23x",
        "/v1/charges%0a",
        "/v1/charges%20",
        "/v1/charges.",
        "/v1/charges%2e%20.",
        "/v1/charges/.",
        "/v1./charges",
        "/v1%20/charges./",
        "/v1/charges/x/..",
        "/v1/charges/x/.. /",
        "/v1%c0%afcharges",
        "/v1%25c0%25afcharges",
        "/v1%e0%80%afcharges",
        "/v1/x/%c0%ae%c0%ae/charges",
        "/v1%u002fcharges",
        "/v1/%U0063harges",
        "/v1%uFF0Fcharges",
        "/x/../v1/charges",
        "/../v1/charges",
        "/v1/charge\u{17f}",
        "/v1/charge%c5%bf",
        "/v1\\.\\charges\\",
        "/v1%f0%80%80%afcharges",
        "/v1%c0%2fcharges",
        "/v1/%%363harges",
        "/v1%EF%BC%8Fcharges",
        "/v1%25EF%25BC%258Fcharges",
        "/v1/x/%ef%bc%8e%ef%bc%8e/charges",
        "/v1/%EF%BD%83harges",
        "/%EF%BC%B61/charges",
        "/v1%e2%88%95charges",
        "/v1%e2%81%84charges",
        "/v1%c2%a5charges",
        "/v1%e2%82%a9charges",
        "/v1%EF%BC%BCcharges",
        "/v1/charges%EF%BC%9Bx",
        "/v1/charges+",
        "/v1/charges%2B",
        "/v1/charges%85",
        "/v1/charges%c2%a0",
        "/v1/charges%a0/",
        "/v1/charges%7f",
        "/v1/charges.json",
        "/v1/charges.JSON/",
        "/v1/charges.x;y",
        "/v1/charges%2ejson",
        "/index.php/v1/charges",
        "/public/INDEX.PHP//v1/charges",
        "/cgi-bin/front.fcgi/v1/charges",
        "/index.php%2fv1%2fcharges",
        "/v1/charges.php/x/y",
        "/(S(x))/v1/charges",
        "/v1/(S(lit3py55t21z5v55vlm25s55))/charges",
        "/(A(1)F(2))/v1/charges",
        "/v1/charges/..%20/",
    ];
    for spelling in spellings {
        assert!(readings(spelling).contains(&"/v1/charges".to_owned()), "{spelling:?}");
    }
}

#[test]
fn a_segment_is_read_without_decoding_its_slashes_too() {
    let readings = readings("/v1/ch%61rges/a%2Fb");
    assert!(readings.contains(&"/v1/charges/a%2fb".to_owned()), "{readings:?}");
    assert!(readings.contains(&"/v1/charges/a/b".to_owned()), "{readings:?}");
}

#[test]
fn an_ordinary_path_has_one_reading() {
    for path in ["/", "/health", "/v1/charges2", "/a/b/", "/u/me@x,1:2", "/.well-known/x"] {
        assert_eq!(readings(path).len(), 1, "{path:?}");
    }
}

#[test]
fn a_name_with_a_suffix_reads_without_it_and_no_further_than_that() {
    assert_eq!(readings("/files/a.tar.gz"), ["/files/a.tar.gz", "/files/a.tar", "/files/a"]);
    assert_eq!(readings("/v1.2/charges"), ["/v1.2/charges"; 1]);
    assert_eq!(readings("/files/.x"), ["/files/.x"]);
}

#[test]
fn reading_stops_at_the_first_that_satisfies() {
    let mut seen = 0;
    let found = any_reading("/a%2525/../b;c//d", |_| {
        seen += 1;
        seen == 2
    });
    assert_eq!((found, seen), (Ok(true), 2));
}

#[test]
fn a_path_with_too_many_readings_is_not_judged() {
    let deep = format!("/v1/%{}63harges", "25".repeat(4));
    let long = format!("/{}%2563", "a".repeat(MAX_READINGS_BYTES));
    let broad = "/a;b%2F.%2F..%5C%3Bc.%20/%00x//%2525d%3F.;e/%252e%252f%c0%af.";
    for path in [deep.as_str(), &long, broad] {
        let mut seen = 0;
        let found = any_reading(path, |_| {
            seen += 1;
            false
        });
        assert_eq!(found, Err(TooAmbiguous), "{path:?}");
        assert!(seen <= MAX_READINGS + 1, "{seen} readings of {path:?}");
    }
}

#[test]
fn folding_drops_case_and_trailing_slashes() {
    let table = [("/", "/"), ("", "/"), ("//", "/"), ("/A/b/", "/a/b"), ("/É", "/é"), ("/\u{212a}", "/k")];
    for (reading, folded) in table {
        assert_eq!(fold(reading), folded, "{reading:?}");
    }
    assert!(matches!(fold("/v1/charges/"), Cow::Borrowed("/v1/charges")));
}

proptest! {
    #[test]
    fn no_path_makes_reading_panic(path in any::<String>()) {
        any_reading(&path, |_| false).ok();
    }

    #[test]
    fn a_path_that_is_taken_for_ordinary_has_no_other_reading(path in "(/|\\.|[a-c]|%2e|;|\\\\|@|~|\\+|\\(|\\)|.php){0,12}") {
        let path = format!("/{path}");
        if reads_one_way(&path) {
            let reading = Reading { path: path.clone().into(), decoded_rounds: 0 };
            for other in reread(&reading) {
                let other = String::from_utf8(other.path).unwrap();
                prop_assert_eq!(fold(&other), fold(&path));
            }
        }
    }
}
