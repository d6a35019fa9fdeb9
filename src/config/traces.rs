//! `[traces]`: where spans are sent, and of which requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::names::endpoint;
use super::reader::{Item, Section};
use super::values::{MILLISECOND, duration, text, text_as};
use super::{TraceSettings, defaults};
use crate::proxy::policy::{Address, Endpoint};

/// The longest that one batch may be waited for.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) fn traces(root: &mut Section<'_>) -> Option<TraceSettings> {
    let mut section = root.section("traces")?;
    let traces = TraceSettings {
        endpoint: section.read("endpoint", local_collector(), text_as(collector)).value,
        sample_ratio: section.read("sample_ratio", defaults::SAMPLE_RATIO, ratio).value,
        service_name: section.read("service_name", defaults::SERVICE_NAME.to_owned(), text).value,
        timeout: section
            .read("timeout", defaults::TRACES_TIMEOUT, duration(MILLISECOND..=LONGEST_TIMEOUT))
            .value,
    };
    section.finish();
    Some(traces)
}

/// The port that OTLP over HTTP has.
fn local_collector() -> Endpoint {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4318));
    Endpoint {
        address: Address::Ip(address),
        is_tls: false,
        authority: address.to_string(),
        base_path: String::new(),
    }
}

fn collector(text: &str) -> Result<Endpoint, String> {
    let is_plain = text.split_once("://").is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("http"));
    if !text.contains('@') && (!is_plain || text.starts_with("unix:")) {
        return Err(
            "spans are sent over plain HTTP only; write \"http://host:4318\", of a collector on the same node that sends \
             them on"
                .to_owned(),
        );
    }
    endpoint(text)
}

/// A share, from 0 to 1.
fn ratio(item: &Item<'_>) -> Option<f64> {
    let value = item.value();
    let written =
        value.as_float().map(ToString::to_string).or_else(|| value.as_integer().map(ToString::to_string));
    let number = written.and_then(|written| written.parse::<f64>().ok());
    match number.filter(|number| (0.0..=1.0).contains(number)) {
        Some(number) => Some(number),
        None => item.refuse("this is no share; write a number from 0 to 1 without quotes, as in 0.1"),
    }
}
