//! Tokens of an identity provider: three algorithms, what is wrong with a token, its times, and the keys' comings and
//! goings on a real HTTP server.

use crate::harness::{Running, check_problem};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use chronotick_core::{Span, TimeBound, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use minoots::clock::KernelClock;
use minoots::config::AccessConfig;
use minoots::config::access::{AuthMode, IssuerConfig, JwksSource};
use minoots::store::MemoryControl;
use minoots_kernel::{ClockSource, ClockStamp};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

const NOW_S: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.example";

/// A clock that stands, and says how far it may be wrong.
#[derive(Clone)]
struct Bounded(Arc<Mutex<(i64, i64)>>);

impl Bounded {
    fn new(error_s: i64) -> Self {
        Self(Arc::new(Mutex::new((NOW_S, error_s))))
    }

    fn set(&self, now_s: i64, error_s: i64) {
        *self.0.lock().unwrap() = (now_s, error_s);
    }
}

impl KernelClock for Bounded {
    fn stamp(&mut self) -> ClockStamp {
        let (now_s, error_s) = *self.0.lock().unwrap();
        let now = Timestamp::from_ns(now_s * 1_000_000_000);
        let bound = TimeBound::around(now, Span::from_secs(error_s));
        ClockStamp { now, bound, source: ClockSource::Page }
    }

    fn detail(&self) -> String {
        "set by hand".into()
    }
}

/// A server of public keys that can be changed and can fail.
struct Provider {
    url: String,
    state: Arc<Mutex<(StatusCode, String, usize)>>,
}

impl Provider {
    async fn start() -> Self {
        type Shared = Arc<Mutex<(StatusCode, String, usize)>>;
        async fn keys(State(state): State<Shared>) -> (StatusCode, String) {
            let mut state = state.lock().unwrap();
            state.2 += 1;
            (state.0, state.1.clone())
        }
        let state: Shared = Arc::new(Mutex::new((StatusCode::OK, r#"{"keys":[]}"#.into(), 0)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let app = Router::new().route("/keys", get(keys)).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, state }
    }

    fn publish(&self, keys: &[&Signer]) {
        let keys: Vec<Value> = keys.iter().map(|k| k.public.clone()).collect();
        self.state.lock().unwrap().1 = json!({ "keys": keys }).to_string();
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().2
    }
}

/// A key pair of the provider.
struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

impl Signer {
    /// With a private key in PKCS#8, DER.
    fn new(id: &'static str, algorithm: Algorithm, private: EncodingKey) -> Self {
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
        public["kid"] = id.into();
        Self { id, algorithm, private, public }
    }

    fn ed(id: &'static str) -> Self {
        let random = ring::rand::SystemRandom::new();
        let der = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = ring::signature::Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        use base64::Engine;
        use ring::signature::KeyPair;
        let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair.public_key());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig"});
        Self { id, algorithm: Algorithm::EdDSA, private: EncodingKey::from_ed_der(der.as_ref()), public }
    }

    fn es(id: &'static str) -> Self {
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = ring::rand::SystemRandom::new();
        let der = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::new(id, Algorithm::ES256, EncodingKey::from_ec_der(der.as_ref()))
    }

    /// `None` where there is no openssl, the one program here that makes RSA keys.
    fn rs(id: &'static str, algorithm: Algorithm) -> Option<Self> {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .ok()?;
        assert!(made.status.success(), "{made:?}");
        Some(Self::new(id, algorithm, EncodingKey::from_rsa_pem(&made.stdout).unwrap()))
    }

    fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.into());
        encode(&header, claims, &self.private).unwrap()
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "minoots", "sub": "alice", "exp": NOW_S + 60,
        "org": "acme", "realm": {"roles": ["offline", "viewer", "operator"]},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn issuer(provider: &Provider) -> IssuerConfig {
    IssuerConfig {
        issuer: ISSUER.into(),
        audience: vec!["minoots".into()],
        jwks: JwksSource::Url(provider.url.clone()),
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        tenant_claim: Some("org".into()),
        role_claim: Some("realm.roles".into()),
        agent_claim: Some("agent".into()),
        scopes_claim: None,
        tenant: None,
        role: None,
        leeway: Duration::ZERO,
        refetch: Duration::ZERO,
    }
}

async fn service(issuer: IssuerConfig, clock: Bounded) -> Running {
    let access = AccessConfig { mode: AuthMode::Required, issuers: vec![issuer], ..AccessConfig::default() };
    Running::with_access(access, Arc::new(MemoryControl::default()), clock).await
}

async fn check(service: &Running, token: &str, want: Result<(), &str>) {
    let answer = service.ask("GET", "/v1/timers", token, None).await;
    match want {
        Ok(()) => assert_eq!(answer.status, 200, "{}", answer.text),
        Err(detail) => check_problem(&answer, 401, "unauthenticated", detail),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_each_algorithm_are_taken() {
    let provider = Provider::start().await;
    let mut signers = vec![Signer::ed("ed"), Signer::es("es")];
    signers.extend(Signer::rs("rs", Algorithm::RS256));
    signers.extend(Signer::rs("ps", Algorithm::PS256));
    if signers.len() == 2 {
        println!("skipped RS256 and PS256: there is no openssl here");
    }
    provider.publish(&signers.iter().collect::<Vec<_>>());
    let service = service(issuer(&provider), Bounded::new(0)).await;
    for signer in &signers {
        check(&service, &signer.token(&claims()), Ok(())).await;
        // The signature of one says nothing of another's claims.
        let (mine, other) = (signer.token(&claims()), signer.token(&with("sub", json!("bob"))));
        let forged = format!("{}.{}", other.rsplit_once('.').unwrap().0, mine.rsplit_once('.').unwrap().1);
        check(&service, &forged, Err("signature")).await;
    }
    let timer = json!({"name": "t", "after": "1h", "actions": []});
    let made = service.ask("POST", "/v1/timers", &signers[0].token(&claims()), Some(timer)).await;
    assert_eq!(made.json()["created_by"], format!("user:{ISSUER}#alice"), "{}", made.text);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_token_is_told() {
    let provider = Provider::start().await;
    let (ed, es) = (Signer::ed("ed"), Signer::es("es"));
    provider.publish(&[&ed, &es]);
    let service = service(issuer(&provider), Bounded::new(0)).await;
    for (claims, want) in [
        (with("iss", json!("https://evil.example")), "issuer"),
        (with("aud", json!("other")), "aud"),
        (with("aud", json!(["other", "more"])), "aud"),
        (with("aud", Value::Null), "aud"),
        (with("exp", Value::Null), "exp"),
        (with("exp", json!("never")), "exp"),
        (with("sub", json!("")), "sub"),
        (with("org", json!("a b")), "tenant"),
        (with("org", Value::Null), "tenant"),
        (with("realm", json!({"roles": ["king"]})), "role"),
        (with("realm", json!({"roles": "agent"})), "agent"),
    ] {
        check(&service, &ed.token(&claims), Err(want)).await;
    }
    check(&service, &ed.token(&with("aud", json!(["other", "minoots"]))), Ok(())).await;
    for text in ["", "a.b.c", "a.b", "x", &"a".repeat(20_000)] {
        let answer = service.ask("GET", "/v1/timers", text, None).await;
        assert_eq!(answer.status, 401, "{}", answer.text);
    }
    // A key of the right name and another algorithm; a name that nobody has.
    check(&service, &Signer { id: "es", ..Signer::ed("x") }.token(&claims()), Err("does not publish")).await;
    check(&service, &Signer { id: "no", ..ed }.token(&claims()), Err("does not publish")).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_is_no_shared_secret_and_no_signature_is_none() {
    use base64::Engine;
    let b64 = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let provider = Provider::start().await;
    let ed = Signer::ed("ed");
    provider.publish(&[&ed]);
    let service = service(issuer(&provider), Bounded::new(0)).await;
    // Signed with HMAC, and the public key that everybody has as the secret.
    let public = ed.public["x"].as_str().unwrap();
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(public).unwrap();
    for secret in [public.as_bytes(), &decoded] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("ed".into());
        let token = encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap();
        check(&service, &token, Err("HS256")).await;
    }
    for algorithm in ["none", "None", ""] {
        let header = json!({"alg": algorithm, "kid": "ed", "typ": "JWT"}).to_string();
        let body = b64(claims().to_string().as_bytes());
        check(&service, &format!("{}.{body}.", b64(header.as_bytes())), Err("algorithm")).await;
    }
    // A header with its own key in it, or one to fetch, changes nothing.
    let stranger = Signer::ed("ed");
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("ed".into());
    header.jku = Some("http://127.0.0.1:9/keys".into());
    header.jwk = serde_json::from_value(stranger.public.clone()).ok();
    check(&service, &encode(&header, &claims(), &stranger.private).unwrap(), Err("signature")).await;
    header.crit = Some(vec!["exp".into()]);
    check(&service, &encode(&header, &claims(), &ed.private).unwrap(), Err("crit")).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_judged_by_the_bound_of_the_clock() {
    let provider = Provider::start().await;
    let ed = Signer::ed("ed");
    provider.publish(&[&ed]);
    let clock = Bounded::new(0);
    let strict = service(issuer(&provider), clock.clone()).await;
    let token = ed.token(&with("nbf", json!(NOW_S - 60)));
    /// Now, how far it may be wrong, and what becomes of a token that is good for a minute before and after [`NOW_S`].
    const CASES: [(i64, i64, Result<(), &str>); 9] = [
        (0, 0, Ok(())),
        (59, 0, Ok(())),
        (60, 0, Err("expired")),
        (62, 2, Err("expired")),
        (61, 2, Ok(())),
        (-60, 0, Ok(())),
        (-61, 0, Err("not good yet")),
        (-62, 2, Ok(())),
        (-63, 2, Err("not good yet")),
    ];
    for (offset_s, error_s, want) in CASES {
        clock.set(NOW_S + offset_s, error_s);
        check(&strict, &token, want).await;
    }
    // A clock that is lost gives five minutes, not a day.
    clock.set(NOW_S + 60 + 299, 86_400);
    check(&strict, &token, Ok(())).await;
    clock.set(NOW_S + 60 + 300, 86_400);
    check(&strict, &token, Err("expired")).await;
    strict.stop().await;
    let lenient = IssuerConfig { leeway: Duration::from_secs(10), ..issuer(&provider) };
    let lenient = service(lenient, clock.clone()).await;
    clock.set(NOW_S + 69, 0);
    check(&lenient, &token, Ok(())).await;
    clock.set(NOW_S + 70, 0);
    check(&lenient, &token, Err("expired")).await;
    lenient.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_found_old_ones_forgotten_and_an_outage_outlived() {
    let provider = Provider::start().await;
    let (first, second) = (Signer::ed("first"), Signer::ed("second"));
    provider.publish(&[&first]);
    let service = service(issuer(&provider), Bounded::new(0)).await;
    check(&service, &first.token(&claims()), Ok(())).await;
    check(&service, &second.token(&claims()), Err("does not publish")).await;
    provider.publish(&[&first, &second]);
    check(&service, &second.token(&claims()), Ok(())).await;
    // The provider is down: what was read is used.
    provider.state.lock().unwrap().0 = StatusCode::INTERNAL_SERVER_ERROR;
    check(&service, &Signer::ed("third").token(&claims()), Err("does not publish")).await;
    check(&service, &first.token(&claims()), Ok(())).await;
    // And up again, with the first key taken back: a token that was remembered goes with it.
    provider.publish(&[&second]);
    provider.state.lock().unwrap().0 = StatusCode::OK;
    check(&service, &Signer::ed("third").token(&claims()), Err("does not publish")).await;
    check(&service, &first.token(&claims()), Err("does not publish")).await;
    check(&service, &second.token(&claims()), Ok(())).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_do_not_make_the_service_ask_without_end() {
    let provider = Provider::start().await;
    let ed = Signer::ed("ed");
    provider.publish(&[&ed]);
    let slow = IssuerConfig { refetch: Duration::from_secs(3_600), ..issuer(&provider) };
    let service = service(slow, Bounded::new(0)).await;
    check(&service, &ed.token(&claims()), Ok(())).await;
    let strangers: Vec<_> = ["a", "b", "c", "d"].map(Signer::ed).into();
    for stranger in &strangers {
        check(&service, &stranger.token(&claims()), Err("does not publish")).await;
    }
    assert_eq!(provider.asked(), 1);
    service.stop().await;
}
