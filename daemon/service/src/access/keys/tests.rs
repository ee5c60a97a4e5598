//! Keys over their life: on a clock that stands, in a store that can be opened again.

use super::*;
use crate::store::MemoryControl;

const fn at(s: i64) -> Moment {
    let ns = s * NS_PER_S;
    Moment { now_ns: ns, earliest_ns: ns, latest_ns: ns }
}

fn keys() -> (Keys, Arc<MemoryControl>) {
    let store = Arc::new(MemoryControl::default());
    (Keys::open(store.clone(), system_random()).unwrap(), store)
}

fn draft(tenant: &str, role: Role) -> KeyDraft {
    let tenant = TenantId::new(tenant);
    KeyDraft {
        name: "a key".into(),
        grant: Grant { tenant, role, scopes: None, agent: None, every_tenant: false },
        expires_at_ns: None,
    }
}

fn admin(tenant: &str) -> Caller {
    draft(tenant, Role::Admin).grant.caller(Principal::Key("key_admin".into()), None)
}

fn enter(keys: &Keys, text: &KeyText, s: i64) -> Result<String, KeyRefusal> {
    keys.caller(text.reveal(), at(s), None).map(|caller| caller.principal.to_string())
}

#[test]
fn a_key_lets_in_until_it_ends_and_after_a_restart_too() {
    let (keys, store) = keys();
    let expiring = KeyDraft { expires_at_ns: Some(100 * NS_PER_S), ..draft("a", Role::Operator) };
    let (key, text) = keys.create(&admin("a"), expiring, at(1)).unwrap();
    let again = Keys::open(store.clone(), system_random()).unwrap();
    for keys in [&keys, &again] {
        let caller = keys.caller(text.reveal(), at(99), None).unwrap();
        assert_eq!((caller.tenant.as_str(), caller.role), ("a", Role::Operator));
        assert_eq!(caller.principal.to_string(), format!("key:{}", key.id));
        assert_eq!(enter(keys, &text, 100), Err(KeyRefusal::Expired));
        // The clock says 100 s, and is sure of 2 s only: it may be 98 s.
        let unsure = Moment { earliest_ns: 98 * NS_PER_S, ..at(100) };
        assert!(keys.caller(text.reveal(), unsure, None).is_ok());
    }
    assert_eq!(*again.get(&admin("a"), &key.id).unwrap(), *key);
    let stored = store.all(KIND).unwrap();
    let record = std::str::from_utf8(&stored[0].1).unwrap();
    assert!(!record.contains(&text.reveal()[4..]), "{record}");
    assert!(record.contains(&text.hash().to_hex()));
    assert_eq!(key.last4(), &text.reveal()[64..]);
}

#[test]
fn a_rotation_leaves_the_old_secret_good_for_the_overlap() {
    let (keys, store) = keys();
    let by = admin("a");
    let (key, first) = keys.create(&by, draft("a", Role::Viewer), at(1)).unwrap();
    let (rotated, second) = keys.rotate(&by, &key.id, 60, at(10)).unwrap();
    assert_eq!(rotated.id, key.id);
    assert_eq!(rotated.previous_until_ns(), Some(70 * NS_PER_S));
    assert!(enter(&keys, &first, 69).is_ok() && enter(&keys, &second, 69).is_ok());
    assert_eq!(enter(&keys, &first, 70), Err(KeyRefusal::Replaced));
    // Another rotation within the overlap ends the first secret.
    let (_, third) = keys.rotate(&by, &key.id, 60, at(20)).unwrap();
    assert_eq!(enter(&keys, &first, 21), Err(KeyRefusal::Unknown));
    assert!(enter(&keys, &second, 21).is_ok() && enter(&keys, &third, 21).is_ok());
    // Without an overlap, at once.
    let (last, fourth) = keys.rotate(&by, &key.id, 0, at(30)).unwrap();
    assert_eq!(last.previous_until_ns(), None);
    assert_eq!(enter(&keys, &third, 30), Err(KeyRefusal::Unknown));
    let again = Keys::open(store, system_random()).unwrap();
    assert!(enter(&again, &fourth, 31).is_ok());
    assert!(matches!(keys.rotate(&by, &key.id, -1, at(31)), Err(KeyError::Invalid { field: "overlap", .. })));
    assert!(keys.rotate(&by, &key.id, OVERLAP_MAX_S + 1, at(31)).is_err());
}

#[test]
fn a_revoked_key_is_over_for_good() {
    let (keys, _) = keys();
    let by = admin("a");
    let (key, text) = keys.create(&by, draft("a", Role::Viewer), at(1)).unwrap();
    let revoked = keys.revoke(&by, &key.id, at(5)).unwrap();
    assert_eq!(enter(&keys, &text, 5), Err(KeyRefusal::Revoked));
    assert_eq!(keys.revoke(&by, &key.id, at(9)).unwrap(), revoked);
    assert!(matches!(keys.rotate(&by, &key.id, 0, at(9)), Err(KeyError::Revoked(_))));
    assert!(matches!(keys.update(&by, &key.id, draft("a", Role::Viewer), at(9)), Err(KeyError::Revoked(_))));
}

#[test]
fn what_is_not_the_callers_is_not_there() {
    let (keys, _) = keys();
    let (a, b) = (admin("a"), admin("b"));
    let (key, _) = keys.create(&a, draft("a", Role::Viewer), at(1)).unwrap();
    let operator = Caller { every_tenant: true, ..admin("a") };
    let operators = KeyDraft { grant: Grant::of(&operator), ..draft("a", Role::Admin) };
    let (operators_key, _) = keys.create(&operator, operators, at(1)).unwrap();
    fn missing<T: fmt::Debug>(outcome: Result<T, KeyError>) {
        assert!(matches!(outcome, Err(KeyError::NotFound(_))), "{outcome:?}");
    }
    for (caller, id) in [(&b, &key.id), (&a, &operators_key.id), (&a, &"key_none".into())] {
        missing(keys.get(caller, id));
        missing(keys.revoke(caller, id, at(2)));
        missing(keys.rotate(caller, id, 0, at(2)));
        missing(keys.update(caller, id, draft(caller.tenant.as_str(), Role::Viewer), at(2)));
    }
    assert_eq!(keys.list(&b, None, 10), []);
    assert_eq!(keys.list(&a, None, 10), std::slice::from_ref(&key));
    assert_eq!(keys.list(&operator, None, 10).len(), 2);
    let mut paged = keys.list(&operator, None, 1);
    paged.extend(keys.list(&operator, Some(&paged[0].id), 10));
    assert_eq!(paged, keys.list(&operator, None, 10));
}

#[test]
fn nobody_gets_more_by_making_changing_or_rotating_a_key() {
    let (keys, _) = keys();
    let scoped = KeyDraft {
        grant: Grant {
            scopes: Some(scopes_of(&["keys.manage", "timers.read"]).unwrap()),
            ..draft("a", Role::Admin).grant
        },
        ..draft("a", Role::Admin)
    };
    let (full, _) = keys.create(&admin("a"), draft("a", Role::Admin), at(1)).unwrap();
    let manager = scoped.grant.caller(Principal::Key("key_m".into()), None);
    fn beyond<T: fmt::Debug>(outcome: Result<T, KeyError>) {
        assert!(matches!(outcome, Err(KeyError::Beyond(_))), "{outcome:?}");
    }
    beyond(keys.create(&manager, draft("a", Role::Viewer), at(2)));
    beyond(keys.rotate(&manager, &full.id, 0, at(2)));
    beyond(keys.revoke(&manager, &full.id, at(2)));
    let (mine, _) = keys.create(&manager, scoped, at(2)).unwrap();
    beyond(keys.update(&manager, &mine.id, draft("a", Role::Viewer), at(2)));
    beyond(keys.create(&admin("a"), draft("b", Role::Viewer), at(2)));
}

#[test]
fn drafts_are_checked() {
    let (keys, _) = keys();
    let check = |change: &dyn Fn(&mut KeyDraft), want: &str| {
        let mut draft = draft("a", Role::Viewer);
        change(&mut draft);
        let outcome = keys.create(&admin("a"), draft, at(50));
        assert!(
            matches!(&outcome, Err(KeyError::Invalid { field, .. }) if *field == want),
            "{want}: {outcome:?}"
        );
    };
    check(&|d| d.name = "  ".into(), "name");
    check(&|d| d.name = "x".repeat(101), "name");
    check(&|d| d.name = "a\nb".into(), "name");
    check(&|d| d.grant.agent = Some("".into()), "agent");
    check(&|d| d.grant.role = Role::Agent, "agent");
    check(&|d| d.grant.scopes = Some(Arc::default()), "scopes");
    check(&|d| d.expires_at_ns = Some(50 * NS_PER_S), "expires_at");
}

#[test]
fn a_tenant_has_a_most_and_revoked_keys_make_room() {
    let (keys, store) = keys();
    let by = admin("a");
    let mut ids = Vec::new();
    for _ in 0..KEYS_MAX {
        ids.push(keys.create(&by, draft("a", Role::Viewer), at(1)).unwrap().0.id.clone());
    }
    assert!(matches!(keys.create(&by, draft("a", Role::Viewer), at(2)), Err(KeyError::TooMany)));
    assert!(keys.create(&admin("b"), draft("b", Role::Viewer), at(2)).is_ok());
    keys.revoke(&by, &ids[7], at(3)).unwrap();
    keys.revoke(&by, &ids[9], at(4)).unwrap();
    keys.create(&by, draft("a", Role::Viewer), at(5)).unwrap();
    assert!(keys.get(&by, &ids[7]).is_err() && keys.get(&by, &ids[9]).is_ok());
    assert_eq!(store.all(KIND).unwrap().len(), KEYS_MAX + 1);
}

#[test]
fn the_first_key_comes_from_the_operator() {
    let (keys, store) = keys();
    let text = KeyText::random(&system_random()).unwrap();
    assert!(keys.accept_bootstrap(&text, at(1)).unwrap());
    let caller = keys.caller(text.reveal(), at(2), None).unwrap();
    assert!(caller.every_tenant && caller.role == Role::Admin);
    let other = KeyText::random(&system_random()).unwrap();
    assert!(!keys.accept_bootstrap(&other, at(2)).unwrap());
    assert_eq!(enter(&keys, &other, 2), Err(KeyRefusal::Unknown));
    // By hand, beside those that there are: whoever can write the store is its operator.
    let (_, third) = bootstrap(store.clone(), at(3)).unwrap();
    assert!(enter(&Keys::open(store, system_random()).unwrap(), &third, 4).is_ok());
}

#[test]
fn a_record_that_cannot_be_read_lets_nobody_in_and_stops_nothing() {
    let (keys, store) = keys();
    let (key, text) = keys.create(&admin("a"), draft("a", Role::Viewer), at(1)).unwrap();
    store.put(KIND, "key_bad", b"{").unwrap();
    store
        .put(
            KIND,
            "key_role",
            br#"{"name":"x","tenant":"a","role":"king","created_at_ns":0,"created_by":"x","secrets":[]}"#,
        )
        .unwrap();
    let again = Keys::open(store, system_random()).unwrap();
    assert!(enter(&again, &text, 2).is_ok());
    assert_eq!(again.list(&admin("a"), None, 10), [key]);
}
