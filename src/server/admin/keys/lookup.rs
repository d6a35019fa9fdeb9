//! A request in words: what an operator knows of one whose key he looks for.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER_PERMISSIVE;
use http::header::{COOKIE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::Deserialize;

use crate::proxy::{Identified, Proxy};
use crate::server::admin::problem::AdminProblem;

/// What identifies a request. Never logged: the key and the caller's marks are secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::admin) struct LookupRequest {
    #[serde(default = "post")]
    method: String,
    /// As the `Host` field has it, without the scheme's default port.
    host: String,
    path: String,
    key: String,
    /// By `header:<name>`, `cookie:<name>` and `client-cert` (the SHA-256 of the certificate), as `caller` has them.
    #[serde(default)]
    caller: BTreeMap<String, Values>,
    /// The route that is meant, if that is to be checked.
    #[serde(default)]
    route: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

impl LookupRequest {
    /// Where the entry of such a request stands.
    pub(in crate::server::admin) fn identify(&self, proxy: &Proxy) -> Result<Identified, AdminProblem> {
        let mut request = Request::new(());
        *request.method_mut() =
            Method::from_bytes(self.method.as_bytes()).map_err(|_| invalid("`method` is no method"))?;
        *request.uri_mut() = Uri::try_from(&self.path).map_err(|_| invalid("`path` is no path"))?;
        request.headers_mut().insert(HOST, value(&self.host, "host")?);
        let certificate = self.add_caller(&mut request)?;
        let (head, ()) = request.into_parts();
        let found = proxy.identify(head, value(&self.key, "key")?, certificate);
        let found = found.map_err(|error| AdminProblem::Invalid(error.to_string()))?;
        match &self.route {
            Some(route) if **route != *found.route => {
                Err(AdminProblem::Invalid(format!("such a request is served by the route {}", found.route)))
            }
            _ => Ok(found),
        }
    }

    /// Adds the caller's marks, and returns his certificate's fingerprint.
    fn add_caller(&self, request: &mut Request<()>) -> Result<Option<[u8; 32]>, AdminProblem> {
        let mut certificate = None;
        for (source, values) in &self.caller {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Several(values) => values,
            };
            for text in values {
                match source.split_once(':') {
                    Some(("header", name)) => {
                        let name = HeaderName::try_from(name).map_err(|_| unknown_source(source))?;
                        request.headers_mut().append(name, value(text, source)?);
                    }
                    Some(("cookie", name)) => {
                        request.headers_mut().append(COOKIE, value(&format!("{name}={text}"), source)?);
                    }
                    None if source == "client-cert" => certificate = Some(fingerprint(text)?),
                    _ => return Err(unknown_source(source)),
                }
            }
        }
        Ok(certificate)
    }
}

fn post() -> String {
    "POST".to_owned()
}

fn fingerprint(text: &str) -> Result<[u8; 32], AdminProblem> {
    let digits = text.replace(':', "");
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| invalid("`client-cert` is the SHA-256 of the certificate, 64 hex digits"))
}

fn value(text: &str, name: &str) -> Result<HeaderValue, AdminProblem> {
    HeaderValue::from_str(text)
        .map_err(|_| AdminProblem::Invalid(format!("`{name}` holds characters that no field can carry")))
}

fn unknown_source(source: &str) -> AdminProblem {
    AdminProblem::Invalid(format!(
        "`{source}` is no mark of a caller; write \"header:<name>\", \"cookie:<name>\" or \"client-cert\""
    ))
}

fn invalid(text: &str) -> AdminProblem {
    AdminProblem::Invalid(text.to_owned())
}
