/** Passkeys: the browser's own JSON forms of WebAuthn level 3. */

import { Problem } from "../api/problem";

export function hasPasskeys(): boolean {
  return typeof PublicKeyCredential !== "undefined" && "parseCreationOptionsFromJSON" in PublicKeyCredential;
}

/** A ceremony's options or its answer, as the platform sends and takes them. */
type Json = Record<string, unknown>;

export async function createPasskey(options: Json | null): Promise<Json> {
  if (options === null) {
    throw new Problem(0, "no_passkeys_here", "This address can hold no passkey.", "Open the platform by a name, not a number.");
  }
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options as unknown as PublicKeyCredentialCreationOptionsJSON);
  return asJson(await ask(() => navigator.credentials.create({ publicKey })));
}

export async function getPasskey(options: Json): Promise<Json> {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options as unknown as PublicKeyCredentialRequestOptionsJSON);
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

function asJson(credential: Credential | null): Json {
  if (!(credential instanceof PublicKeyCredential)) {
    throw new Problem(0, "passkey_refused", "The browser gave no passkey.");
  }
  return credential.toJSON() as Json;
}
