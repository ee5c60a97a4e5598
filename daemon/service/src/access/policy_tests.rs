//! What each role may do; that kept decisions are those of the policies; and what is told of files that cannot be used.

use super::*;
use minoots_kernel::TenantId;
use std::collections::BTreeSet;

fn caller(role: Role, agent: Option<&str>, every_tenant: bool, scopes: Option<&[Verb]>) -> Caller {
    Caller {
        principal: Principal::Key("k".into()),
        tenant: TenantId::new("a"),
        role,
        scopes: scopes.map(|verbs| Arc::new(verbs.iter().copied().collect::<BTreeSet<_>>())),
        agent: agent.map(Arc::from),
        every_tenant,
        from: None,
        standing: None,
    }
}

fn timer(tenant: &str, agent: Option<&str>) -> TimerDefinition {
    let labels = agent.map(|agent| (AGENT_LABEL.to_string(), agent.to_string()));
    TimerDefinition {
        tenant: TenantId::new(tenant),
        labels: labels.into_iter().collect(),
        ..TimerDefinition::default()
    }
}

/// The verbs of a class, as docs/access.md has them.
fn is_of_timers(verb: Verb) -> bool {
    let word = verb.as_str();
    word.starts_with("timers.") || word.starts_with("teams.") || word == "events.watch"
}

#[test]
fn each_role_has_what_the_guide_says() {
    use Verb::*;
    let policies = Policies::default();
    let operate = [ReadMetrics, ReadTenants, ManageTenants, ManageSigning];
    let administer = [ReadKeys, ManageKeys, ReadSecrets, ManageSecrets, ManageSchemas, ReadAudit];
    for &verb in Verb::ALL {
        let is_read = !is_of_timers(verb) && !operate.contains(&verb) && !administer.contains(&verb)
            || [ReadTimer, ListTimers, ReadHistory, WatchEvents].contains(&verb);
        let is_change = is_of_timers(verb) && !is_read;
        let want = |role, every| match role {
            Role::Viewer => is_read,
            Role::Agent | Role::Operator => is_read || is_change,
            Role::Admin => {
                is_read || is_change || administer.contains(&verb) || every && operate.contains(&verb)
            }
        };
        for role in Role::ALL {
            for every in [false, true] {
                let agent = (role == Role::Agent).then_some("x");
                let who = caller(role, agent, every, None);
                let own = timer("a", agent);
                for subject in [Subject::Tenant, Subject::Named("n")] {
                    let allowed = policies.decide(&who, verb, subject).allowed;
                    assert_eq!(allowed, want(role, every), "{role:?} {every} {verb:?} {subject:?}");
                }
                if is_of_timers(verb) {
                    let allowed = policies.decide(&who, verb, Subject::NewTimer(&own)).allowed;
                    assert_eq!(allowed, want(role, every), "{role:?} {verb:?} a timer of its own");
                }
            }
        }
    }
}

#[test]
fn an_agent_keeps_to_itself_and_scopes_narrow() {
    fn check(who: &Caller, verb: Verb, subject: &TimerDefinition, want: Option<&str>) {
        let verdict = Policies::default().decide(who, verb, Subject::NewTimer(subject));
        assert_eq!(verdict.allowed, want.is_none(), "{who:?} {verdict:?}");
        if let Some(want) = want {
            assert_eq!(verdict.policies.join(" "), want, "{who:?}");
        }
    }
    let agent = caller(Role::Agent, Some("x"), false, None);
    check(&agent, Verb::CancelTimer, &timer("a", Some("x")), None);
    check(&agent, Verb::CancelTimer, &timer("a", Some("y")), Some("own-agent-only"));
    check(&agent, Verb::ReadTimer, &timer("a", None), Some("own-agent-only"));
    check(&agent, Verb::ReadTimer, &timer("b", Some("x")), Some("own-tenant-only"));
    // An agent that is nobody in particular has nothing.
    check(&caller(Role::Agent, None, false, None), Verb::ReadTimer, &timer("a", None), Some(""));
    let scoped = caller(Role::Operator, None, false, Some(&[Verb::ReadTimer]));
    check(&scoped, Verb::ReadTimer, &timer("a", None), None);
    check(&scoped, Verb::CancelTimer, &timer("a", None), Some("scopes-narrow"));
    // A role is not widened by a scope.
    let viewer = caller(Role::Viewer, None, false, Some(&[Verb::CancelTimer]));
    check(&viewer, Verb::CancelTimer, &timer("a", None), Some(""));
    check(
        &caller(Role::Admin, None, true, None),
        Verb::CancelTimer,
        &timer("b", None),
        Some("own-tenant-only"),
    );
}

#[test]
fn kept_decisions_are_those_of_the_policies() {
    let policies = Policies::default();
    let definitions: Vec<_> = [("a", None), ("a", Some("x")), ("a", Some("y")), ("b", Some("x"))]
        .map(|(tenant, agent)| timer(tenant, agent))
        .into();
    let mut subjects: Vec<_> = definitions.iter().map(Subject::NewTimer).collect();
    subjects.extend([Subject::Tenant, Subject::Named("n")]);
    for role in Role::ALL {
        for agent in [None, Some("x")] {
            for every in [false, true] {
                for scopes in [None, Some(&[Verb::ReadTimer, Verb::ReadAudit][..])] {
                    let who = caller(role, agent, every, scopes);
                    for (&verb, &subject) in
                        Verb::ALL.iter().flat_map(|v| subjects.iter().map(move |s| (v, s)))
                    {
                        let asked = policies.evaluate(&who, verb, subject);
                        assert_eq!(
                            policies.decide(&who, verb, subject),
                            asked,
                            "{who:?} {verb:?} {subject:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn files_add_to_our_own_and_what_is_wrong_with_them_is_told() {
    fn load(text: &str) -> Result<Policies, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine.cedar"), text).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "no policy").unwrap();
        Policies::load(Some(dir.path())).map_err(|e| e.to_string())
    }
    fn check(text: &str, want: &[&str]) {
        let error = load(text).unwrap_err();
        for part in want {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
    let forbid = "@id(\"no-weekend-names\")\nforbid (principal, action == Action::\"timers.create\", resource is Timer)\n\
                  when { resource.name like \"weekend*\" };";
    let policies = load(forbid).unwrap();
    let who = caller(Role::Operator, None, false, None);
    let named = |name: &str| TimerDefinition { name: name.into(), ..timer("a", None) };
    let verdict = policies.decide(&who, Verb::CreateTimer, Subject::NewTimer(&named("weekend-1")));
    assert_eq!((verdict.allowed, verdict.policies.join("")), (false, "mine/no-weekend-names".into()));
    assert!(policies.decide(&who, Verb::CreateTimer, Subject::NewTimer(&named("monday"))).allowed);
    check("permit (principal action, resource);", &["mine.cedar", "line 1"]);
    check(
        "// a line\n\npermit (principal, action == Action::\"timers.crate\", resource);",
        &["mine.cedar", "line 3", "timers.crate"],
    );
    check("permit (principal, action, resource) when { principal.salary > 3 };", &["mine.cedar", "salary"]);
    let missing = Policies::load(Some(Path::new("/nowhere"))).unwrap_err().to_string();
    assert!(missing.contains("/nowhere"), "{missing}");
}

#[test]
fn cases_are_answered_and_differences_told() {
    let dir = tempfile::tempdir().unwrap();
    let cases = dir.path().join("cases.toml");
    let text = r#"
        [[case]]
        name = "a viewer reads"
        role = "viewer"
        verb = "timers.read"
        timer = { labels = { agent = "x" } }
        expect = "allow"
        by = "viewer-reads"
        [[case]]
        name = "a viewer cancels"
        role = "viewer"
        verb = "timers.cancel"
        expect = "allow"
        [[case]]
        name = "an agent cancels what is another's"
        role = "agent"
        agent = "y"
        verb = "timers.cancel"
        timer = { labels = { agent = "x" } }
        expect = "deny"
        by = "own-agent-only"
    "#;
    std::fs::write(&cases, text).unwrap();
    let report = run_policy_tests(None, &cases).unwrap();
    assert_eq!(report.passed, 2);
    let [(name, how)] = &report.failed[..] else { panic!("{report:?}") };
    assert_eq!(name, "a viewer cancels");
    assert!(how.contains("deny, not allow"), "{how}");
    std::fs::write(&cases, "[[case]]\nname='n'\nrole='king'\nverb='timers.read'\nexpect='allow'").unwrap();
    assert!(run_policy_tests(None, &cases).unwrap_err().contains("king"));
}

/// The text of a block of the guide.
fn block(language: &str) -> &'static str {
    let guide = include_str!("../../../../docs/access.md");
    let start = guide.split_once("## What they may do").expect("the part is there").1;
    let inside = start.split_once(&format!("```{language}\n")).expect("the block is there").1;
    inside.split_once("```").expect("the block ends").0
}

#[test]
fn the_samples_of_the_guide_are_policies_and_cases_that_pass() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("access.cedar"), block("cedar")).unwrap();
    let cases = dir.path().join("cases.toml");
    std::fs::write(&cases, block("toml")).unwrap();
    let report = run_policy_tests(Some(dir.path()), &cases).unwrap();
    assert_eq!(report, Report { passed: 2, failed: Vec::new() });
    for role in Role::ALL {
        let guide = include_str!("../../../../docs/access.md");
        assert!(guide.contains(&format!("| `{}` |", role.as_str())), "{role:?}");
    }
}
