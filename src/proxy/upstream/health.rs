//! Asking endpoints how they are, again and again.
//!
//! Each question has a connection of its own, beside those that requests use: it is to find out whether one can be made.

use std::sync::Weak;

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use tokio::time::{Instant, sleep, timeout_at};

use super::Upstream;
use super::connect::Fresh;
use super::endpoint::{Endpoint, below};
use super::http2;
use crate::proxy::body::{RequestBody, WholeBody};
use crate::proxy::headers::PSEUDONYM;
use crate::proxy::policy::HealthCheck;

/// Watches the endpoint at this index for as long as anybody but this has the upstream.
pub(super) async fn watch(upstream: Weak<Upstream>, index: usize, check: HealthCheck) {
    while look(&upstream, index, &check).await.is_some() {
        sleep(check.interval).await;
    }
}

/// Asks once; `None` if there is nothing left to ask for.
async fn look(upstream: &Weak<Upstream>, index: usize, check: &HealthCheck) -> Option<()> {
    let upstream = upstream.upgrade()?;
    let endpoint = upstream.endpoints.get(index)?;
    let deadline = Instant::now() + check.timeout;
    let is_good = timeout_at(deadline, ask(endpoint, check, deadline)).await == Ok(Some(true));
    upstream.balance.checked(endpoint, is_good, check);
    Some(())
}

/// Whether the answer is a good one; `None` if there is none.
async fn ask(endpoint: &Endpoint, check: &HealthCheck, deadline: Instant) -> Option<bool> {
    let mut request = Request::new(RequestBody::Whole(WholeBody::default()));
    *request.uri_mut() = below(endpoint.base_path(), &check.path.parse().ok()?)?;
    *request.headers_mut() = HeaderMap::with_capacity(2);
    let host = check.host.as_deref().unwrap_or(&endpoint.authority);
    request.headers_mut().insert(HOST, HeaderValue::from_str(host).ok()?);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(PSEUDONYM));
    let status = match endpoint.connector.connect(None, false, deadline).await.ok()? {
        Fresh::Http1(mut connection) => connection.sender.send_request(request).await.ok()?.status(),
        Fresh::Http2(connection) => http2::ask(connection, request, endpoint.scheme.clone()).await?.status(),
    };
    Some(status.is_success() || status.is_redirection())
}
