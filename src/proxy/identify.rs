//! Under which id a request stands: what an operator asks who has the request at hand, and not the id.
//!
//! Takes the steps that requests take, by the same functions, and stops before the body.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;
use thiserror::Error;

use super::request::{self, Framing, Keyed, Protocol};
use super::{Problem, Proxy, Tls};
use crate::idempotency::RequestId;

/// No port is left out: whoever asks leaves the default one out, as clients do.
const NO_DEFAULT_PORT: u16 = 0;

/// A request that would be guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Where its entry stands.
    pub id: RequestId,
    /// The name of the route that guards it.
    pub route: Arc<str>,
}

/// Why a request has no id.
#[derive(Debug, Error)]
pub enum IdentifyError {
    /// It would be refused.
    #[error("such a request is refused: {0}")]
    Refused(#[from] Problem),
    /// It would stream through.
    #[error("the route {0} does not guard such a request")]
    Unguarded(Arc<str>),
}

impl Proxy {
    /// The id of a request with this head, and `key` in its key field, from a client with this certificate (the SHA-256 of its
    /// DER).
    ///
    /// # Errors
    ///
    /// [`IdentifyError`].
    pub fn identify(
        &self,
        mut head: Parts,
        key: HeaderValue,
        certificate: Option<[u8; 32]>,
    ) -> Result<Identified, IdentifyError> {
        let protocol = Protocol::Http1(Some(Framing::default()));
        let host = self.names.check(&mut head, protocol, NO_DEFAULT_PORT).map_err(Problem::from)?;
        let found = self.routes.find(&host, head.uri.path()).ok_or(Problem::NoRoute)?;
        let site = self.sites.get(found).ok_or(Problem::NoRoute)?;
        let Some((policy, method)) = self.guarding(site, found, &host, &head)? else {
            return Err(IdentifyError::Unguarded(site.name.clone()));
        };
        if let Some(name) = policy.header.first() {
            head.headers.insert(name, key);
        }
        let key = request::key(&head.headers, policy)?.ok_or_else(|| request::key_missing(policy))?;
        let tls = Tls { certificate };
        let caller = request::caller(&head.headers, Some(&tls), policy)?;
        let keyed = Keyed { parts: Box::new(head), method, host, key, caller };
        Ok(Identified { id: keyed.present(policy, None).id, route: site.name.clone() })
    }

    /// The longest ttl of the guarded routes; `None` if there are none.
    #[must_use]
    pub fn longest_ttl(&self) -> Option<Duration> {
        self.sites.iter().filter_map(|site| site.route.guard.as_ref()).map(|policy| policy.rules.ttl).max()
    }

    /// Whether a route of this name serves.
    #[must_use]
    pub fn has_route(&self, name: &str) -> bool {
        self.sites.iter().any(|site| &*site.name == name)
    }
}
