/** Passkeys: the browser's own JSON forms of WebAuthn level 3. */

import { Problem } from "../api/problem";

export function hasPasskeys(): boolean {
  return typeof PublicKeyCredential !== "undefined" && "parseCreationOptionsFromJSON" in PublicKeyCredential;
}

export async function createPasskey(options: PublicKeyCredentialCreationOptionsJSON): Promise<unknown> {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  return asJson(await ask(() => navigator.credentials.create({ publicKey })));
}

export async function getPasskey(options: PublicKeyCredentialRequestOptionsJSON): Promise<unknown> {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return asJson(await ask(() => navigator.credentials.get({ publicKey })));
}

async function ask(prompt: () => Promise<Credential | null>): Promise<Credential | null> {
  try {
    return await prompt();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    if (error.name === "InvalidStateError") {
      throw new Problem(0, "passkey_known", "This authenticator already holds a passkey for you.");
    }
    throw new Problem(0, "passkey_refused", "The browser gave no passkey.", "It was cancelled, or took too long.");
  }
}

function asJson(credential: Credential | null): unknown {
  if (!(credential instanceof PublicKeyCredential)) {
    throw new Problem(0, "passkey_refused", "The browser gave no passkey.");
  }
  return credential.toJSON();
}
