//! Requests to the admin listener: their bodies, bounded and of one type, and what they accept.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::problem::AdminProblem;

/// The largest body.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The longest body that is one line.
const MAX_TEXT_BYTES: usize = 1_024;

/// The JSON document that a request carries.
pub(super) async fn json<T: DeserializeOwned>(head: &Parts, body: Incoming) -> Result<T, AdminProblem> {
    let content_type =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    // A page of another site cannot send this type without asking first, and nobody answers that.
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(AdminProblem::ContentType { expected: "application/json" });
    }
    let bytes = bytes(body).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| AdminProblem::Invalid(format!("the body cannot be used: {error}")))
}

/// A short text on one line, whatever its type is said to be: who sends one with `PUT` is no page of another site.
pub(super) async fn text(body: Incoming) -> Result<String, AdminProblem> {
    let bytes = bytes(body).await?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    if !(1..=MAX_TEXT_BYTES).contains(&text.len()) || text.chars().any(char::is_control) {
        let wanted = format!("send a text of 1 to {MAX_TEXT_BYTES} bytes on one line");
        return Err(AdminProblem::Invalid(wanted));
    }
    Ok(text.to_owned())
}

/// The whole body.
async fn bytes(body: Incoming) -> Result<bytes::Bytes, AdminProblem> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(AdminProblem::TooLarge { max_bytes: MAX_BODY_BYTES })
        }
        Err(_) => Err(AdminProblem::Invalid("the body broke off".to_owned())),
    }
}

/// The `Accept` field, its lines joined (RFC 9110 §5.3).
pub(super) fn accepted(headers: &HeaderMap) -> String {
    let lines = headers.get_all(ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}
