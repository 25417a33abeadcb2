import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { post, setCsrf } from "../api/client";
import type { SignupDone } from "../api/types";
import { Await, Notice } from "../design/parts";
import { Door } from "./Door";
import { RecoveryCodes } from "./RecoveryCodes";
import { Signup } from "./Signup";
import { takeToken } from "./token";

/** Accepts an invitation: the link names the operator, whoever opens it brings the proof. */
export default function Invitation() {
  const [token] = useState(takeToken);
  const [done, setDone] = useState<SignupDone | null>(null);
  const client = useQueryClient();
  const navigate = useNavigate();
  const offer = useQuery({
    queryKey: ["invitation"],
    queryFn: () => post("/signin/invitation/begin", { body: { token } }),
    enabled: token !== "",
    retry: false,
    staleTime: Infinity,
  });
  if (done !== null) {
    return (
      <Door title="Keep your recovery codes" aside="The last step.">
        <RecoveryCodes
          codes={done.recovery_codes}
          onKept={async () => {
            client.clear();
            await navigate({ to: "/" });
          }}
        />
      </Door>
    );
  }
  return (
    <Door title="Accept your invitation" aside="Someone who administers this fleet invited you.">
      {token === "" ? (
        <Notice tone="info" title="This page needs the whole link">
          Open the invitation as you received it. It works once, for 24 hours.
        </Notice>
      ) : (
        <Await query={offer} what="your invitation">
          {(found) => (
            <>
              <p>
                You will sign in as <strong>{found.name}</strong>.
              </p>
              <Signup
                offer={found}
                finish={(proof) => post("/signin/invitation/finish", { body: { token, ...proof } })}
                onDone={(answer) => {
                  setCsrf(answer.csrf);
                  setDone(answer);
                }}
              />
            </>
          )}
        </Await>
      )}
    </Door>
  );
}
