//! TLS and client certificates, with certificates that openssl makes on the spot.

use crate::harness::{Answer, Running, check_problem};
use minoots::access::grant::Grant;
use minoots::access::secret::{KeyText, system_random};
use minoots::access::{Caller, Role};
use minoots::clock::OsClock;
use minoots::config::AccessConfig;
use minoots::config::access::{
    AuthMode, CertificateMatch, CertificateRule, ClientAuth, ListenerLimits, TlsConfig,
};
use minoots::listen::Tls;
use minoots::store::MemoryControl;
use minoots_kernel::TenantId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A directory with an authority and what it signs.
struct Authority(TempDir);

impl Authority {
    /// `None` where there is no openssl.
    fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: there is no openssl here");
            return None;
        }
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=authority \
             -keyout ca.key -out ca.pem",
        );
        Some(authority)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let made =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(self.0.path()).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Signs a certificate of this name; its files are `name.pem` and `name.key`.
    fn sign(&self, name: &str, subject: &str, alternative: &str, days: &str) {
        std::fs::write(self.path("ext"), format!("subjectAltName={alternative}\n")).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj {subject} -keyout {name}.key -out \
             {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile ext -out \
             {name}.pem"
        ));
    }

    fn tls(&self, client_auth: ClientAuth) -> TlsConfig {
        TlsConfig {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: (client_auth != ClientAuth::None).then(|| self.path("ca.pem")),
            client_auth,
        }
    }

    /// A client that trusts the authority and presents a certificate.
    fn client(&self, identity: Option<&str>) -> reqwest::Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(&self.path("ca.pem"))).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let tls = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                let chain = vec![certificate(&self.path(&format!("{name}.pem")))];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap()
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn rule(matches: CertificateMatch, tenant: &str, role: Role) -> CertificateRule {
    let grant =
        Grant { tenant: TenantId::new(tenant), role, every_tenant: false, ..Grant::of(&Caller::local(None)) };
    CertificateRule { matches, grant }
}

async fn serve(access: AccessConfig) -> Running {
    Running::with_access(access, Arc::new(MemoryControl::default()), OsClock).await
}

/// What a client gets; its error as text where it got nothing.
async fn ask(client: &reqwest::Client, service: &Running) -> Result<Answer, String> {
    let request = client.get(format!("{}/v1/timers", service.url));
    let response = request.send().await.map_err(|e| format!("{e:?}"))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, text: response.text().await.map_err(|e| e.to_string())? })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_gives_what_its_rule_says() {
    let Some(authority) = Authority::new() else { return };
    authority.sign("server", "/CN=server", "IP:127.0.0.1", "30");
    authority.sign("worker", "/O=Acme/CN=worker", "DNS:worker.example,URI:spiffe://acme/worker", "30");
    authority.sign("stranger", "/CN=stranger", "DNS:stranger.example", "30");
    let stranger = Authority::new().unwrap();
    stranger.sign("worker", "/O=Acme/CN=worker", "DNS:worker.example", "30");
    for matches in [
        CertificateMatch::CommonName("worker".into()),
        CertificateMatch::Dns("WORKER.example".into()),
        CertificateMatch::Uri("spiffe://acme/worker".into()),
        CertificateMatch::Subject("O=Acme, CN=worker".into()),
    ] {
        let access = AccessConfig {
            mode: AuthMode::Required,
            tls: Some(authority.tls(ClientAuth::Required)),
            certificates: vec![
                rule(CertificateMatch::CommonName("somebody".into()), "other", Role::Viewer),
                rule(matches.clone(), "acme", Role::Operator),
            ],
            ..AccessConfig::default()
        };
        let service = serve(access).await;
        let worker = authority.client(Some("worker"));
        let body = r#"{"name":"t","after":"1h","actions":[]}"#;
        let create =
            worker.post(format!("{}/v1/timers", service.url)).header("content-type", "application/json");
        let made = Answer::of(create.body(body)).await.json();
        assert_eq!(made["created_by"], "cert:O=Acme, CN=worker", "{matches:?}: {made}");
        // The authority knows this one, and no rule does.
        let unknown = ask(&authority.client(Some("stranger")), &service).await.unwrap();
        check_problem(&unknown, 401, "unauthenticated", "stranger");
        // Without a certificate, or with one of another authority, the handshake fails.
        assert!(ask(&authority.client(None), &service).await.is_err());
        let foreign = Authority(tempfile::tempdir().unwrap());
        for (from, name) in [(&authority, "ca.pem"), (&stranger, "worker.pem"), (&stranger, "worker.key")] {
            std::fs::copy(from.path(name), foreign.path(name)).unwrap();
        }
        assert!(ask(&foreign.client(Some("worker")), &service).await.is_err());
        // A page that the certificate's owner has open gets nothing by it.
        let page = worker.get(format!("{}/v1/timers", service.url)).header("origin", "https://evil.example");
        check_problem(&Answer::of(page).await, 403, "forbidden", "origin");
        service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_certificate_leaves_room_for_keys() {
    let Some(authority) = Authority::new() else { return };
    authority.sign("server", "/CN=server", "IP:127.0.0.1", "30");
    authority.sign("worker", "/CN=worker", "DNS:worker.example", "30");
    let key = KeyText::random(&system_random()).unwrap();
    let access = AccessConfig {
        mode: AuthMode::Required,
        bootstrap_key: Some(key.clone()),
        tls: Some(authority.tls(ClientAuth::Optional)),
        certificates: vec![rule(CertificateMatch::CommonName("worker".into()), "acme", Role::Viewer)],
        ..AccessConfig::default()
    };
    let service = serve(access).await;
    check_problem(
        &ask(&authority.client(None), &service).await.unwrap(),
        401,
        "unauthenticated",
        "x-api-key",
    );
    assert_eq!(ask(&authority.client(Some("worker")), &service).await.unwrap().status, 200);
    let url = format!("{}/v1/timers", service.url);
    let with_key = authority.client(None).get(&url).header("x-api-key", key.reveal());
    assert_eq!(Answer::of(with_key).await.status, 200);
    // A wrong key is not made good by a certificate.
    let wrong = authority.client(Some("worker")).get(&url).header("x-api-key", "mnt_0");
    assert_eq!(Answer::of(wrong).await.status, 401);
    // Nothing is told to who speaks no TLS.
    let plain = crate::harness::client().get(url.replace("https", "http")).send().await;
    assert!(plain.is_err(), "{plain:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let Some(authority) = Authority::new() else { return };
    authority.sign("server", "/CN=server", "IP:127.0.0.1", "30");
    let config = authority.tls(ClientAuth::None);
    let tls = Tls::load(&config, Default::default()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let router = axum::Router::new().fallback(async || "hello");
    let serving =
        minoots::listen::serve(listener, Some(tls.clone()), ListenerLimits::default(), router, stop.clone());
    let serving = tokio::spawn(serving);
    let status = async || authority.client(None).get(&url).send().await.map(|r| r.status().as_u16());
    assert_eq!(status().await.unwrap(), 200);
    // Now one for another address, which our client does not accept.
    authority.sign("server", "/CN=server", "IP:127.0.0.9", "30");
    tls.reload().unwrap();
    assert!(status().await.is_err());
    std::fs::write(&config.cert, "broken").unwrap();
    let e = tls.reload().unwrap_err().to_string();
    assert!(e.contains("server.pem"), "{e}");
    authority.sign("server", "/CN=server", "IP:127.0.0.1", "30");
    tls.reload().unwrap();
    assert_eq!(status().await.unwrap(), 200);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(60), serving).await.unwrap().unwrap();
}
