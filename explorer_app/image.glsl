#version 330 core
// One fragment of the picture: screen pixel -> image pixel (zoom, pan, mirror) -> value -> window/level -> colour.
// DIFFERENCE, IN_COLOUR and MIXED are defined in the programs for those: a software driver computes every branch of every pixel.
in vec2 screen;             // pixels from the target's top left corner
out vec4 colour;
uniform sampler2D first;    // grey levels (R) or colours (RGB)
uniform sampler2D second;   // the pin, for the signed difference, a blend or a swipe
uniform sampler2D colours;  // 256 x 1 colour table
uniform vec2 origin;        // image pixel at the target's top left corner
uniform vec2 pixel_step;    // image pixels per screen pixel; x negative when mirrored
uniform float low;          // grey level of the first colour
uniform float width;        // grey levels from first to last colour
uniform float change_width; // grey levels of a difference from first to last colour, around zero
uniform float threshold;    // a smaller difference is none
uniform int overlay;        // a difference is laid over the picture
uniform int inverted;
uniform float share;        // of the second in a blend; of the width on the screen that is the first's in a swipe
uniform int swiped;
uniform vec3 background;

vec3 level(sampler2D image, vec2 place, vec2 size) {
#ifdef CUBIC
    // Catmull and Rom: 4 x 4 pixels, weights of Keys (1981) with a = -0.5.
    vec2 corner = floor(place - 0.5), t = place - 0.5 - corner;
    vec2 weights[4] = vec2[](
        t * (-0.5 + t * (1.0 - 0.5 * t)),
        1.0 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2.0 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t));
    vec3 sum = vec3(0.0);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++) {
            vec2 pixel = clamp(corner + vec2(x - 1, y - 1), vec2(0.0), size - 1.0);
            sum += weights[x].x * weights[y].y * texelFetch(image, ivec2(pixel), 0).rgb;
        }
    return sum;
#else
    return texture(image, place / size).rgb;
#endif
}

void main() {
    vec2 size = vec2(textureSize(first, 0));
    vec2 place = origin + screen * pixel_step;
    vec3 value = level(first, place, size);
#ifdef MIXED
    float across = pixel_step.x < 0.0 ? 1.0 - place.x / size.x : place.x / size.x;
    value = mix(value, level(second, place, size), swiped == 1 ? step(share, across) : share);
#endif
    vec3 t = clamp((value - low) / max(width, 1e-6), 0.0, 1.0);
#ifdef DIFFERENCE
    float change = value.r - level(second, place, size).r;
    if (abs(change) < threshold) change = 0.0;
    float signed_share = change / (0.5 * max(change_width, 1e-6));
    float at = clamp(0.5 + 0.5 * signed_share, 0.0, 1.0);
    vec3 inside = texture(colours, vec2((at * 255.0 + 0.5) / 256.0, 0.5)).rgb;
    if (overlay == 1) inside = mix(vec3(inverted == 1 ? 1.0 - t.r : t.r), inside, min(1.0, abs(signed_share)));
#elif defined(IN_COLOUR)
    vec3 inside = inverted == 1 ? 1.0 - t : t;
#else
    vec3 inside = texture(colours, vec2((t.r * 255.0 + 0.5) / 256.0, 0.5)).rgb;
#endif
    bool outside = any(lessThan(place, vec2(0.0))) || any(greaterThanEqual(place, size));
    colour = vec4(outside ? background : inside, 1.0);
}
