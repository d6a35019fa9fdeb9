//! Requests that are not guarded: they stream through both ways, unbuffered.

use std::net::IpAddr;

use http::request::Parts;
use http::{Method, Response, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::access::AccessLine;
use super::body::{ReplyBody, RequestBody};
use super::outcome::RequestOutcome;
use super::problem::Problem;
use super::upstream::SendError;
use super::{Proxy, Site, headers, outbound, reply, tunnel};
use crate::idempotency::UnknownCause;

impl Proxy {
    /// Streams the request to the upstream and the answer to the client. A client that leaves ends the exchange.
    pub(super) async fn pass(
        &self,
        site: &Site,
        mut parts: Parts,
        body: Incoming,
        client: IpAddr,
        line: &mut AccessLine,
    ) -> Result<Response<ReplyBody>, Problem> {
        let params = site.upstream.params();
        let is_head = parts.method == Method::HEAD;
        let upgrade = headers::upgrade(&parts.headers, &site.route.upgrades);
        let downstream = upgrade.is_some().then(|| tunnel::upgrade(&mut parts));
        headers::to_upstream(&mut parts.headers, client, upgrade, self.names.protected());
        let request = outbound(parts, RequestBody::Stream(body));
        let begun = Instant::now();
        let sent =
            timeout(params.response_timeout, site.upstream.send(request, params.idle_timeout, || true)).await;
        line.upstream(begun.elapsed());
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(SendError::NotSent(cause))) => return Err(Problem::Unreachable { cause }),
            Ok(Err(SendError::Lost(cause))) => return Err(Problem::OutcomeUnknown { cause }),
            Err(_) => return Err(Problem::OutcomeUnknown { cause: UnknownCause::AttemptTimeout }),
        };
        line.end(response.status(), RequestOutcome::Passed);
        if let Some(downstream) = downstream.filter(|_| reply::is_switch(response.status())) {
            return Ok(tunnel::join(downstream, response, self.names.protected()));
        }
        let mut response = response.map(ReplyBody::Stream);
        let keep_length = is_head || reply::is_bodyless_with_length(response.status());
        headers::to_client(response.headers_mut(), keep_length, self.names.protected());
        headers::via(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}
