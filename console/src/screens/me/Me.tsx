import { useQuery } from "@tanstack/react-query";

import { remove } from "../../api/client";
import { Ago } from "../../design/Ago";
import { Facts, Notice, Page, Sheet } from "../../design/parts";
import { canProve, useMe } from "../../session/me";
import { Proof } from "../../session/StepUp";
import { Sessions } from "../operators/Sessions";
import { ownSessionsQuery } from "./queries";
import { Passkeys } from "./Passkeys";
import { PasswordAndTotp } from "./PasswordAndTotp";
import { NewRecoveryCodes } from "./NewRecoveryCodes";

export default function Me() {
  const me = useMe();
  return (
    <Page title={me.display_name || me.name} lead="How you sign in, and where you are signed in.">
      {me.restricted && (me.session?.method === "oidc" ? <OneFactor /> : <Recovered />)}
      {!me.restricted && me.factors.passkeys < 2 && (
        <Notice tone="info" title="Register a second passkey">
          Keep it elsewhere: if you lose the first, you are not locked out.
        </Notice>
      )}
      <div className="columns">
        <div className="stack wide">
          <Passkeys />
          <PasswordAndTotp />
          <NewRecoveryCodes />
        </div>
        <div className="stack wide">
          <Rights />
          {!me.restricted && <OwnSessions />}
        </div>
      </div>
    </Page>
  );
}

function Recovered() {
  return (
    <Notice tone="care" title="You came in with a recovery code">
      Register a passkey or an authenticator app, then sign out and sign in with it. Until then, nothing else is open to you.
    </Notice>
  );
}

/** The provider asked for one factor only: two of this platform's open the rest. */
function OneFactor() {
  const me = useMe();
  const title = "Your provider did not ask for a second factor";
  if (!canProve(me)) {
    return (
      <Notice tone="care" title={title}>
        Register a passkey, or a password and an authenticator app, then confirm with it. Until then, nothing else is open to
        you.
      </Notice>
    );
  }
  return (
    <Sheet title={title}>
      <div className="stack">
        <p>Confirm with what you registered here, and everything you may do is open to you.</p>
        <Proof onDone={() => undefined} />
      </div>
    </Sheet>
  );
}

function Rights() {
  const me = useMe();
  return (
    <Sheet title="What you may do">
      <div className="stack">
        <Facts
          of={[
            ["Name", <code key="n">{me.name}</code>],
            ...me.grants.map((grant): [string, string] => [grant.role, grant.group === "*" ? "in all groups" : `in ${grant.group}`]),
            ["Last proof", <Ago key="m" at={me.mfa_at} fallback="none in this session" />],
            ["Session ends", <Ago key="e" at={me.session?.expires_at} />],
          ]}
        />
      </div>
    </Sheet>
  );
}

function OwnSessions() {
  const sessions = useQuery(ownSessionsQuery);
  return (
    <Sessions query={sessions} queryKey={["me", "sessions"]} end={(id) => remove("/me/sessions/{session_id}", { params: { path: { session_id: id } } })} />
  );
}
