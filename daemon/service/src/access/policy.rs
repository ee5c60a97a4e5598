//! The policy engine: Cedar policies, our own and those of the operator, decide what a caller may do.

use super::{Caller, Principal, Role, Subject, Verb};
use crate::api::error::{ApiError, FORBIDDEN};
use crate::api::operations::{AGENT_LABEL, TEAM_LABEL};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use minoots_kernel::TimerDefinition;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

const SCHEMA: &str = include_str!("../../policies/schema.cedarschema");
const DEFAULT: &str = include_str!("../../policies/default.cedar");

/// Why policies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The directory or a file of it cannot be read.
    #[error("cannot read the policies in {}: {reason}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A file is not Cedar, or speaks of what there is not.
    #[error("the policies in {file} cannot be used: {why}")]
    Unusable {
        /// The file.
        file: String,
        /// What is wrong, with its line where it is known.
        why: String,
    },
}

/// How a question was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that decided; none where nothing permits it.
    pub policies: Arc<[String]>,
}

/// Everything on which our own policies decide: few values, so that decisions are kept.
type Key = (Role, Verb, Facts);

/// What our own policies ask of a caller and a subject, beside the role and the verb. One bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Facts(u8);

/// The policies in force.
pub struct Policies {
    authorizer: Authorizer,
    set: PolicySet,
    /// The roles, and the actions in their groups.
    known: Entities,
    /// Kept decisions, where only our own policies are in force.
    kept: Option<RwLock<HashMap<Key, Verdict>>>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policies({})", self.set.policies().count())
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self::load(None).expect("our own policies are checked in a test")
    }
}

impl Policies {
    /// Our own policies and, beside them, those of every `.cedar` file in a directory.
    pub fn load(directory: Option<&Path>) -> Result<Self, PolicyError> {
        let schema = Schema::from_str(SCHEMA)
            .map_err(|e| PolicyError::Unusable { file: "schema.cedarschema".into(), why: e.to_string() })?;
        let inside = |why: String| PolicyError::Unusable { file: "schema.cedarschema".into(), why };
        let known = schema
            .action_entities()
            .map_err(|e| e.to_string())
            .and_then(|actions| actions.add_entities(roles()?, None).map_err(|e| e.to_string()))
            .map_err(inside)?;
        let validator = Validator::new(schema);
        let mut set = PolicySet::new();
        add(&mut set, &validator, "default.cedar", "", DEFAULT)?;
        for path in directory.map(files).transpose()?.unwrap_or_default() {
            let text = std::fs::read_to_string(&path)
                .map_err(|reason| PolicyError::Unreadable { path: path.clone(), reason })?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            add(&mut set, &validator, &path.display().to_string(), &format!("{stem}/"), &text)?;
        }
        let kept = directory.is_none().then(RwLock::default);
        Ok(Self { authorizer: Authorizer::new(), set, known, kept })
    }

    /// True where only our own policies are in force: they ask of a timer no more than its tenant and its agent.
    pub fn are_our_own(&self) -> bool {
        self.kept.is_some()
    }

    /// Decides.
    pub fn decide(&self, caller: &Caller, verb: Verb, subject: Subject<'_>) -> Verdict {
        let Some(kept) = &self.kept else { return self.evaluate(caller, verb, subject) };
        let key = (caller.role, verb, Facts::of(caller, verb, subject));
        if let Some(verdict) = kept.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return verdict.clone();
        }
        let verdict = self.evaluate(caller, verb, subject);
        kept.write().unwrap_or_else(PoisonError::into_inner).insert(key, verdict.clone());
        verdict
    }

    fn evaluate(&self, caller: &Caller, verb: Verb, subject: Subject<'_>) -> Verdict {
        match self.ask(caller, verb, subject) {
            Ok(verdict) => verdict,
            // What cannot be decided is refused.
            Err(why) => {
                tracing::error!(verb = verb.as_str(), "a request cannot be put before the policies: {why}");
                Verdict { allowed: false, policies: Arc::from([]) }
            }
        }
    }

    fn ask(&self, caller: &Caller, verb: Verb, subject: Subject<'_>) -> Result<Verdict, String> {
        let text = |e: &dyn fmt::Display| e.to_string();
        let principal = uid("Caller", &caller.principal.to_string())?;
        let action = uid("Action", verb.as_str())?;
        let resource = resource(caller, subject)?;
        let loopback = caller.from.is_none_or(|addr| addr.ip().to_canonical().is_loopback());
        let context = Context::from_pairs([
            ("verb".to_string(), string(verb.as_str())),
            ("loopback".to_string(), RestrictedExpression::new_bool(loopback)),
        ])
        .map_err(|e| text(&e))?;
        let request =
            Request::new(principal.clone(), action, resource.uid(), context, None).map_err(|e| text(&e))?;
        let caller =
            Entity::new(principal, caller_attributes(caller), [uid("Role", caller.role.as_str())?].into())
                .map_err(|e| text(&e))?;
        let entities = self.known.clone().add_entities([caller, resource], None).map_err(|e| text(&e))?;
        let response = self.authorizer.is_authorized(&request, &self.set, &entities);
        for error in response.diagnostics().errors() {
            tracing::warn!("a policy failed and was left out of a decision: {error}");
        }
        let mut policies: Vec<_> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort_unstable();
        Ok(Verdict { allowed: response.decision() == Decision::Allow, policies: policies.into() })
    }

    /// Refuses what is not allowed, in the words of the API.
    pub fn authorize(&self, caller: &Caller, verb: Verb, subject: Subject<'_>) -> Result<(), ApiError> {
        let verdict = self.decide(caller, verb, subject);
        if verdict.allowed {
            return Ok(());
        }
        let (role, verb) = (caller.role.as_str(), verb.as_str());
        let why = match &*verdict.policies {
            [] => format!("no policy permits {verb} to the role {role}"),
            policies => format!("{verb} is forbidden by the policy {}", policies.join(" and ")),
        };
        Err(ApiError::new(&FORBIDDEN, format!("{why}: ask the tenant's admin")))
    }
}

impl Facts {
    /// A policy of ours that asks for more than these needs its bit here; a test holds both against each other.
    fn of(caller: &Caller, verb: Verb, subject: Subject<'_>) -> Self {
        let labels = match subject {
            Subject::NewTimer(definition) => Some(&definition.labels),
            Subject::Timer(timer) => Some(&timer.definition.labels),
            Subject::Tenant | Subject::Named(_) => None,
        };
        let agent = labels.and_then(|l| l.get(AGENT_LABEL)).map(String::as_str);
        let tenant = match subject {
            Subject::NewTimer(definition) => Some(&definition.tenant),
            Subject::Timer(timer) => Some(timer.tenant()),
            _ => None,
        };
        let kind = match subject {
            Subject::Tenant => 0,
            Subject::NewTimer(_) | Subject::Timer(_) => 1,
            Subject::Named(_) => 2,
        };
        let bits = [
            caller.every_tenant,
            caller.agent.is_some(),
            caller.agent.is_some() && caller.agent.as_deref() == agent,
            caller.scopes.as_ref().is_none_or(|scopes| scopes.contains(&verb)),
            tenant.is_none_or(|tenant| *tenant == caller.tenant),
        ];
        Self(bits.iter().fold(kind, |all, bit| all << 1 | u8::from(*bit)))
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let unreadable = |reason| PolicyError::Unreadable { path: directory.into(), reason };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "cedar") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Adds the policies of a file under names that say where they are from.
fn add(
    set: &mut PolicySet,
    validator: &Validator,
    file: &str,
    prefix: &str,
    text: &str,
) -> Result<(), PolicyError> {
    let unusable = |why: String| PolicyError::Unusable { file: file.to_string(), why };
    let parsed = PolicySet::from_str(text).map_err(|errors| {
        let all = errors.iter().map(|e| {
            let place = miette_offset(e).map(|at| format!("line {}: ", line(text, at))).unwrap_or_default();
            format!("{place}{e}")
        });
        unusable(all.collect::<Vec<_>>().join("; "))
    })?;
    let checked = validator.validate(&parsed, ValidationMode::default());
    if let Some(error) = checked.validation_errors().next() {
        let place = miette_offset(error).map(|at| format!("line {}: ", line(text, at))).unwrap_or_default();
        return Err(unusable(format!("{place}{error}")));
    }
    if parsed.templates().next().is_some() {
        return Err(unusable("a template (?principal, ?resource) is not linked to anything here".into()));
    }
    for policy in parsed.policies() {
        let name = policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_string);
        let named: Policy = policy.new_id(PolicyId::new(format!("{prefix}{name}")));
        set.add(named).map_err(|e| unusable(e.to_string()))?;
    }
    Ok(())
}

/// Where in a text an error is, if it says so.
fn miette_offset(error: &dyn miette::Diagnostic) -> Option<usize> {
    error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset())
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|e| e.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_string())
}

/// The roles: admin includes operator, operator includes viewer.
fn roles() -> Result<Vec<Entity>, String> {
    let role = |role: Role, parents: &[Role]| {
        let parents = parents.iter().map(|p| uid("Role", p.as_str())).collect::<Result<_, _>>()?;
        Ok(Entity::new_no_attrs(uid("Role", role.as_str())?, parents))
    };
    [
        role(Role::Viewer, &[]),
        role(Role::Agent, &[]),
        role(Role::Operator, &[Role::Viewer]),
        role(Role::Admin, &[Role::Operator]),
    ]
    .into_iter()
    .collect()
}

fn caller_attributes(caller: &Caller) -> HashMap<String, RestrictedExpression> {
    let kind = match caller.principal {
        Principal::Local => "local",
        Principal::Key(_) => "key",
        Principal::User(_) => "user",
        Principal::Certificate(_) => "cert",
    };
    let mut all = HashMap::from([
        ("tenant".to_string(), string(caller.tenant.as_str())),
        ("kind".to_string(), string(kind)),
        ("every_tenant".to_string(), RestrictedExpression::new_bool(caller.every_tenant)),
    ]);
    if let Some(agent) = &caller.agent {
        all.insert("agent".to_string(), string(agent));
    }
    if let Some(scopes) = &caller.scopes {
        let words = scopes.iter().map(|verb| string(verb.as_str()));
        all.insert("scopes".to_string(), RestrictedExpression::new_set(words));
    }
    all
}

fn resource(caller: &Caller, subject: Subject<'_>) -> Result<Entity, String> {
    let tenant = caller.tenant.as_str();
    let attributes = |pairs: Vec<(&str, &str)>| -> HashMap<String, RestrictedExpression> {
        pairs.into_iter().map(|(name, value)| (name.to_string(), string(value))).collect()
    };
    let thing = |name: &str| {
        let all = attributes(vec![("tenant", tenant), ("name", name)]);
        Entity::new(uid("Thing", name)?, all, [].into()).map_err(|e| e.to_string())
    };
    let timer = |id: &str, d: &TimerDefinition| {
        let mut pairs = vec![("tenant", d.tenant.as_str()), ("name", d.name.as_str())];
        let optional =
            [AGENT_LABEL, TEAM_LABEL].into_iter().filter_map(|l| d.labels.get(l).map(|v| (l, v.as_str())));
        pairs.extend(optional);
        pairs.extend(d.created_by.as_deref().map(|by| ("created_by", by)));
        let tags = d.labels.iter().map(|(k, v)| (k.clone(), string(v)));
        Entity::new_with_tags(uid("Timer", id)?, attributes(pairs), [], tags).map_err(|e| e.to_string())
    };
    match subject {
        Subject::Tenant => {
            Entity::new(uid("Tenant", tenant)?, attributes(vec![("tenant", tenant)]), [].into())
                .map_err(|e| e.to_string())
        }
        Subject::NewTimer(definition) => timer("new", definition),
        Subject::Timer(instance) => timer(&instance.id.to_string(), &instance.definition),
        Subject::Named(name) => thing(name),
    }
}

/// A file of questions with their answers.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CasesFile {
    case: Vec<Case>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    role: String,
    verb: String,
    #[serde(default = "default_tenant")]
    tenant: String,
    agent: Option<String>,
    scopes: Option<Vec<String>>,
    #[serde(default)]
    every_tenant: bool,
    timer: Option<CaseTimer>,
    expect: Expect,
    by: Option<String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTimer {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
}

fn default_tenant() -> String {
    "default".into()
}

/// What became of the questions of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many were answered as expected.
    pub passed: usize,
    /// The others: the question's name, and how the answer differs.
    pub failed: Vec<(String, String)>,
}

/// Puts the questions of a TOML file before our policies and those of a directory.
pub fn run_policy_tests(directory: Option<&Path>, cases: &Path) -> Result<Report, String> {
    let policies = Policies::load(directory).map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(cases).map_err(|e| format!("cannot read {}: {e}", cases.display()))?;
    let file: CasesFile =
        toml::from_str(&text).map_err(|e| format!("{} cannot be used: {e}", cases.display()))?;
    let mut report = Report::default();
    for case in &file.case {
        match case.differs(&policies)? {
            None => report.passed += 1,
            Some(how) => report.failed.push((case.name.clone(), how)),
        }
    }
    Ok(report)
}

impl Case {
    fn differs(&self, policies: &Policies) -> Result<Option<String>, String> {
        let wrong =
            |what: &str, text: &str| format!("the case {:?} has the {what} {text:?}: no such one", self.name);
        let verb = Verb::parse(&self.verb).ok_or_else(|| wrong("verb", &self.verb))?;
        let scopes = self.scopes.as_deref().map(super::grant::scopes_of).transpose();
        let caller = Caller {
            principal: Principal::Key("case".into()),
            tenant: minoots_kernel::TenantId::new(&self.tenant),
            role: Role::parse(&self.role).ok_or_else(|| wrong("role", &self.role))?,
            scopes: scopes.map_err(|word| wrong("scope", &word))?,
            agent: self.agent.as_deref().map(Arc::from),
            every_tenant: self.every_tenant,
            from: None,
            standing: None,
        };
        let definition = self.timer.as_ref().map(|timer| TimerDefinition {
            tenant: caller.tenant.clone(),
            name: timer.name.clone(),
            labels: timer.labels.clone(),
            ..TimerDefinition::default()
        });
        let subject = definition.as_ref().map_or(Subject::Tenant, Subject::NewTimer);
        let verdict = policies.decide(&caller, verb, subject);
        let by = verdict.policies.join(" and ");
        let got = if verdict.allowed { Expect::Allow } else { Expect::Deny };
        if got != self.expect {
            return Ok(Some(format!("{got:?}, not {:?}; decided by {by:?}", self.expect).to_lowercase()));
        }
        Ok(match &self.by {
            Some(want) if *want != by => Some(format!("decided by {by:?}, not {want:?}")),
            _ => None,
        })
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
