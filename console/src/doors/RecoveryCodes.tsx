import { Button, Checkbox } from "@mantine/core";
import { useState } from "react";

import { CopyButton } from "../design/parts";

/** Shows recovery codes, this once. */
export function RecoveryCodes({ codes, onKept }: { codes: string[]; onKept: () => void }) {
  const [isKept, setIsKept] = useState(false);
  return (
    <div className="stack">
      <p>
        Each code lets you in once if you lose your passkey or authenticator. Print them or put them into a password manager:
        they are shown only now.
      </p>
      <ol className="codes" aria-label="Recovery codes">
        {codes.map((code) => (
          <li key={code}>{code}</li>
        ))}
      </ol>
      <div className="command">
        <code>{codes.length} codes</code>
        <CopyButton text={codes.join("\n")} label="recovery codes" />
      </div>
      <Checkbox
        label="I have stored them where only I reach them"
        checked={isKept}
        onChange={(e) => setIsKept(e.currentTarget.checked)}
      />
      <Button disabled={!isKept} onClick={onKept}>
        Continue
      </Button>
    </div>
  );
}
