/** The API's paths as types: what each takes and answers, from its OpenAPI document. */

import type { paths } from "./schema";

export type Method = "get" | "post" | "put" | "delete";

type Operation<P, M extends Method> = `/api/v1${P & string}` extends infer Full extends keyof paths
  ? paths[Full] extends { [K in M]: infer O }
    ? O
    : never
  : never;

/** The paths, without `/api/v1`, that know a method. */
export type Template<M extends Method> = {
  [Full in keyof paths]: Full extends `/api/v1${infer P}` ? (paths[Full] extends { [K in M]: object } ? P : never) : never;
}[keyof paths];

type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : undefined;

/** What a successful call answers. */
export type Answer<P, M extends Method> =
  Operation<P, M> extends infer O
    ? O extends { responses: infer R }
      ? R extends { 200: infer Ok }
        ? Json<Ok>
        : R extends { 201: infer Created }
          ? Json<Created>
          : undefined
      : never
    : never;

type PathOf<O> = O extends { parameters: { path: infer Path } } ? { path: Path } : { path?: undefined };
type QueryOf<O> = O extends { parameters: { query?: infer Query } } ? { query?: Loose<Query> } : { query?: undefined };
type BodyOf<O> = O extends { requestBody: { content: { "application/json": infer Body } } }
  ? { body: Body }
  : { body?: undefined };
/** Parameters that are not given may stand as undefined. */
type Loose<Query> = { [K in keyof Query]?: Query[K] | undefined };

/** What a call takes. */
export type Options<P, M extends Method> =
  Operation<P, M> extends infer O ? (O extends object ? PathOf<O> & QueryOf<O> & BodyOf<O> & { signal?: AbortSignal } : never) : never;

/** Options that must be given, because the call needs one of them. */
export type Given<P, M extends Method> = object extends Options<P, M> ? [options?: Options<P, M>] : [options: Options<P, M>];
