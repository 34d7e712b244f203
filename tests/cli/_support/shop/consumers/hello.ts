import { Consumer, type Notification } from "@hark/postgres";

/** The payload on the channel "signups". */
interface Signup {
  readonly name: string;
}

/** Greets each new user. */
export class Hello extends Consumer<Signup> {
  override readonly id = "hello";
  override readonly channels = "signups";

  override handle({ payload }: Notification<Signup>): void {
    console.log(`Hello ${payload.name}`);
  }
}
