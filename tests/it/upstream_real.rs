//! Servers that others made, behind TLS and HTTP/2: nginx and Node.

use crate::harness::{Authority, Config, Http2Client, OtherServer, Request, eventually};

/// A proxy's settings before `server`.
fn upstream(server: &OtherServer, authority: &Authority, protocol: &str) -> String {
    let (cert, key) = authority.issue("proxy.test");
    format!(
        "endpoints = [\"https://localhost:{}\"]\nprotocol = \"{protocol}\"\nmax_reuse_idle = \"10s\"\n\
         tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
        server.address().port(),
        authority.ca().display(),
        cert.display(),
        key.display()
    )
}

#[tokio::test]
async fn nginx_knows_the_proxy_and_its_goodbyes_cost_nothing() {
    let authority = Authority::new();
    for (protocol, spoken) in [("auto", "HTTP/2.0"), ("http2", "HTTP/2.0"), ("http1", "HTTP/1.1")] {
        let nginx = nginx(&authority).await;
        let config = Config::before_endpoints([]).upstream(&upstream(&nginx, &authority, protocol));
        let proxy = config.start().await;
        // It says goodbye after every third request.
        for n in 0..20 {
            let first = proxy.charge(&format!("k{n}")).await;
            assert_eq!(first.expect_status(201).text(), format!("{spoken} SUCCESS"));
            proxy.charge(&format!("k{n}")).await.expect_replay_of(&first);
        }
        let all: Vec<_> = (20..60).map(|n| proxy.request_aside(Request::charge(&format!("k{n}")))).collect();
        for one in all {
            one.await.unwrap().expect_status(201);
        }
        let asked = || nginx.access_log();
        eventually("nginx has logged all", async || asked().lines().count() >= 60).await;
        let mut keys: Vec<String> = asked().lines().map(str::to_owned).collect();
        keys.sort();
        keys.dedup();
        assert_eq!((keys.len(), asked().lines().count()), (60, 60), "each key ran once");
    }
}

#[tokio::test]
async fn node_gets_whole_requests_by_http2_and_its_answers_are_replayed() {
    let authority = Authority::new();
    let node = node(&authority);
    let config = Config::before_endpoints([]).upstream(&upstream(&node, &authority, "auto"));
    let proxy = config.start().await;
    let charge = Request::charge("k").host("api.test").field("TE", "trailers");
    let first = proxy.request(&charge.field("Connection", "TE")).await;
    assert_eq!(
        first.expect_status(201).text(),
        r#"1 POST https api.test /v1/charges trailers: {"amount":10}"#
    );
    let charge = Request::charge("k").host("api.test");
    proxy.request(&charge).await.expect_replay_of(&first);
    let upload = Request::post("/else?a=b").host("api.test").chunked(&["a", "bc"]);
    let second = proxy.request(&upload).await;
    assert_eq!(second.expect_status(201).text(), "2 POST https api.test /else?a=b undefined: abc");
}

#[tokio::test]
async fn a_call_goes_by_http2_on_both_sides_and_its_trailers_are_replayed() {
    let authority = Authority::new();
    let node = node(&authority);
    let config = Config::before_endpoints([]).upstream(&upstream(&node, &authority, "auto"));
    let proxy = config.start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let ok = [("grpc-status".to_owned(), "0".to_owned())];
    let first = client.request(&Request::charge("k").field("te", "trailers")).await;
    assert_eq!(first.expect_status(201).trailers, ok, "nobody announces them");
    let retry = client.request(&Request::charge("k").field("te", "trailers")).await;
    assert_eq!(retry.expect_replay_of(&first).trailers, ok);
    let mut call = client.begin(&Request::post("/package.Service/Call").host("api.test"), false).await;
    call.send_data("ab", false);
    call.send_data("cd", false);
    call.send_trailer("x-end", "1");
    let streamed = call.response().await.unwrap();
    assert!(streamed.expect_status(201).text().ends_with(" undefined: abcd"), "{streamed:?}");
    assert_eq!(streamed.trailers, ok);
}

/// nginx, which wants to know who asks, says what is spoken, and logs the keys.
async fn nginx(authority: &Authority) -> OtherServer {
    let (cert, key) = authority.issue("localhost");
    let server = |address| {
        format!(
            "listen {address} ssl http2; keepalive_requests 3;\n\
             ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on;\n\
             location / {{ return 201 '$server_protocol $ssl_client_verify'; }}",
            cert.display(),
            key.display(),
            authority.ca().display()
        )
    };
    OtherServer::nginx("$http_idempotency_key", server).await
}

/// Node, which says what it was asked and sends trailers.
fn node(authority: &Authority) -> OtherServer {
    let (cert, key) = authority.issue("localhost");
    let script = format!(
        "const fs = require('node:fs');
        const server = require('node:http2').createSecureServer({{
            cert: fs.readFileSync('{}'), key: fs.readFileSync('{}'),
        }});
        let count = 0;
        server.on('stream', (stream, headers) => {{
            const number = ++count;
            stream.respond({{ ':status': 201, 'content-type': 'text/plain' }}, {{ waitForTrailers: true }});
            stream.on('wantTrailers', () => stream.sendTrailers({{ 'grpc-status': '0' }}));
            const of = ['method', 'scheme', 'authority', 'path'].map((name) => headers[`:${{name}}`]).join(' ');
            stream.write(`${{number}} ${{of}} ${{headers.te}}: `);
            stream.pipe(stream);
        }});
        server.listen(0, '127.0.0.1', () => console.log(server.address().port));",
        cert.display(),
        key.display()
    );
    OtherServer::node(&script)
}
