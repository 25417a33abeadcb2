import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { get, post, setCsrf } from "../api/client";
import type { SignupDone, SignupOffer } from "../api/types";
import { Command, Notice, ProblemNotice } from "../design/parts";
import { Door } from "./Door";
import { RecoveryCodes } from "./RecoveryCodes";
import { Signup } from "./Signup";
import { takeToken } from "./token";

/** The first run: whoever holds the setup link becomes the first operator. */
export default function Setup() {
  const [token] = useState(takeToken);
  const [offer, setOffer] = useState<SignupOffer | null>(null);
  const [displayName, setDisplayName] = useState("");
  const [done, setDone] = useState<SignupDone | null>(null);
  const client = useQueryClient();
  const navigate = useNavigate();
  const setup = useQuery({ queryKey: ["setup"], queryFn: () => get("/setup"), staleTime: Infinity });

  if (done !== null) {
    return (
      <Door title="Keep your recovery codes" aside="Step 3 of 4. Then your first device.">
        <RecoveryCodes
          codes={done.recovery_codes}
          onKept={async () => {
            client.clear();
            await navigate({ to: "/first-device" });
          }}
        />
      </Door>
    );
  }
  if (setup.data?.open === false) {
    return (
      <Door title="This platform is set up" aside="It has operators; one of them can invite you.">
        <Notice tone="info">The setup link stopped working when the first operator was created.</Notice>
        <a href="/signin">Sign in</a>
      </Door>
    );
  }
  if (token === "") {
    return (
      <Door title="Open the setup link" aside="The platform has no operator yet, and no default password.">
        <p>The platform printed a link when it started. It works once, for 30 minutes. Print a fresh one with:</p>
        <Command>fleetward operator setup-link</Command>
      </Door>
    );
  }
  if (offer === null) {
    return (
      <Door title="Create the first operator" aside="Step 1 of 4. No default credential exists: this link is the only way in.">
        <NameForm
          token={token}
          onOffer={(found, display) => {
            setOffer(found);
            setDisplayName(display);
          }}
        />
      </Door>
    );
  }
  return (
    <Door title={`Prove it is you, ${displayName}`} aside="Step 2 of 4. A password alone never opens a session.">
      <Signup
        offer={offer}
        finish={(proof) =>
          post("/setup/finish", { body: { token, name: offer.name, display_name: displayName, ...proof } })
        }
        onDone={(found) => {
          setCsrf(found.csrf);
          setDone(found);
        }}
      />
    </Door>
  );
}

function NameForm({ token, onOffer }: { token: string; onOffer: (offer: SignupOffer, displayName: string) => void }) {
  const [name, setName] = useState("");
  const [displayName, setDisplayName] = useState("");
  const begin = useMutation({
    mutationFn: () =>
      post("/setup/begin", { body: { token, name, display_name: displayName || name } }),
    onSuccess: (offer) => onOffer(offer, displayName || name),
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    begin.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {begin.isError && <ProblemNotice error={begin.error} />}
      <TextInput
        label="Name"
        description="Lower case, as it stands in the audit log: ada"
        autoComplete="username"
        required
        value={name}
        onChange={(e) => setName(e.currentTarget.value)}
      />
      <TextInput
        label="Display name"
        description="As others read it: Ada Lovelace"
        autoComplete="name"
        value={displayName}
        onChange={(e) => setDisplayName(e.currentTarget.value)}
      />
      <Button type="submit" loading={begin.isPending}>
        Continue
      </Button>
    </form>
  );
}
