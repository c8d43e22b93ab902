// Stands for tsc: fills dist/, which git does not keep.
import { cpSync } from "node:fs";
cpSync("src", "dist", { recursive: true });
