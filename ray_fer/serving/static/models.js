// What the deployment offers: its models, their classes, how windows are cut, and whether Kafka is behind it.

import { getJson } from "./api.js";
import { learnClasses } from "./palette.js";

const FRAMES = 16;
let offer = { default: null, models: [], windows: { size: 5, stride: 1 }, stream: true };

/** Ask the server; gives what it answers. */
export async function loadModels() {
  offer = await getJson("v1/models");
  learnClasses(offer.models.flatMap((model) => model.classes));
  return offer;
}

export const offered = () => offer;

/** The models by name, each once: one may play several parts. */
function uniqueModels() {
  return [...new Map(offer.models.map((model) => [model.name, model])).values()];
}

/** Classes of the model that answers by default. */
export function defaultClasses() {
  return uniqueModels().find((model) => model.name === offer.default)?.classes ?? [];
}

/** In how many frames of a window a face was searched for. */
export function framesOf(prediction) {
  return uniqueModels().find((model) => model.name === prediction.model.name)?.frames ?? FRAMES;
}

/** Pairs of value and text for a choice of models, the default one first. */
export function modelChoices() {
  const rest = uniqueModels().filter((model) => model.name !== offer.default);
  const first = offer.default === null ? [] : [["", `${offer.default} (default)`]];
  return [...first, ...rest.map((model) => [model.name, `${model.name} ${model.version}`])];
}
