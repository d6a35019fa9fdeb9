//! Clients that speak TLS, and what a configuration says of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::within;
use crate::servers::{Certificate, Certificates};

impl Certificates {
    /// What `tls` of `[server]` says: `server.crt`, `server.key`, and `more`.
    pub fn toml(&self, more: &str) -> String {
        let folder = self.path("");
        let folder = folder.display();
        let comma = if more.is_empty() { "" } else { ", " };
        let more = more.replace("@", &folder.to_string());
        format!("tls = {{ cert = \"{folder}server.crt\", key = \"{folder}server.key\"{comma}{more} }}")
    }

    /// A client's connection, its handshake done.
    pub async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
        protocol: &str,
        client: Option<&Certificate>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        self.secure(stream, host, protocol, client).await
    }

    /// Does the handshake on a connection.
    pub async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
        protocol: &str,
        client: Option<&Certificate>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => config.with_no_client_auth(),
            Some(client) => config.with_client_auth_cert(vec![client.der.clone()], client.key()).unwrap(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(host.to_owned()).unwrap();
        within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}
